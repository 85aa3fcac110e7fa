"""The paper's table: rows of evaluations by fold, and what is missing with its reason."""

import pytest

from tests.experiments.synthetic import clips
from tests.reporting.test_by_fold import result as of_cell
from zsfuse_ray.config.options import build
from zsfuse_ray.config.reproduce import ReproduceConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments import reproduce as module
from zsfuse_ray.runs.result import Result

SYSTEMS = ("specialist", "alm_ensemble", "alm_amplified", "concat", "alm_ensemble@2,1", "concat@2,1")


def cell(options, preset):
    """An evaluation of two ALMs, of which the second is not at hand."""
    if options.alm.startswith("clsp"):
        raise InputError(f"{options.alm}: not found")
    ua = {"mean": 0.5, "folds": 0.1, "seeds": None, "low": None, "high": None}
    record = of_cell(results={"": {name: {"ua": ua} for name in SYSTEMS}})
    return Result(None, record)  # type: ignore[arg-type]


@pytest.fixture
def table(tmp_path, monkeypatch):
    known = clips().set_column(7, "corpus", [["ravdess"] * 120])
    monkeypatch.setattr(module, "load", lambda sources: known)
    monkeypatch.setattr(module, "evaluate_by_fold", cell)
    given = {"corpus": "ravdess:x", "alms": "pooled-alm:mini,msclap:y,clsp:x", "specialists": "pooled:mini"}
    return module.reproduce(build(ReproduceConfig, given | {"output": str(tmp_path / "out")})).record


def test_a_corpus_or_a_model_that_is_not_there_is_marked(table):
    missing = [(row["corpus"], row["alm"], row["missing"]) for row in table["rows"] if row["missing"]]
    assert missing == [
        ("iemocap", None, "corpus not given"),
        ("msp_podcast", None, "corpus not given"),
        ("ravdess", "clsp:x", "clsp:x: not found"),
    ]
    assert table["paper"] == {"ravdess": 0.8711}


def test_rows_have_the_systems_by_copies_and_the_specialist_once(table):
    rows = [row for row in table["rows"] if not row["missing"]]
    assert [
        (row["alm"], row["specialist"], row["copies"]) for row in rows if row["system"] == "specialist"
    ] == [(None, "pooled:mini", None)]
    of_first = [(row["system"], row["copies"]) for row in rows if row["alm"] == "pooled-alm:mini"]
    assert of_first == [
        ("alm_amplified", "chosen"), ("concat", "chosen"), ("alm_ensemble", "2, 1"), ("concat", "2, 1")
    ]  # fmt: skip
    assert [row["in_sample"] for row in rows[:2]] == [False, True]  # the specialist alone has not seen it


def test_an_unreadable_corpus_is_an_error(tmp_path):
    config = build(ReproduceConfig, {"corpus": f"ravdess:{tmp_path}/none", "output": str(tmp_path / "out")})
    with pytest.raises(InputError, match="none"):
        module.reproduce(config)
