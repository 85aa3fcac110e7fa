"""Labels from a table against labels from the encoders' own rows; refusals; tables of one run."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from embedding_runs import DIM, MODELS, encoded_rows, unit, write_table
from zsfuse_ray.archive.embeddings import open_embeddings
from zsfuse_ray.archive.fuse_stage import Scorer
from zsfuse_ray.archive.rescore import key_of, label_file, rescore, with_tables_options
from zsfuse_ray.archive.rows import ENCODED
from zsfuse_ray.archive.tables import flatten

from zsfuse_ray.archive import rescore as module
from zsfuse_ray.config.options import build
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec
from zsfuse_ray.runs.folder import RECORDINGS, REJECTS, RUN, SEGMENTS, Output

LABELS = ("angry", "happy", "sad", "bored")
THEIRS = tuple(MODELS["specialist"]["labels"])
SCORER = Scorer(
    labels=LABELS,
    text=unit(np.random.default_rng(5), 3, len(LABELS), DIM),
    scale=20.0,
    audio_repeats=3,
    specialist_labels=THEIRS,
    ensemble="embedding",
    temperature=2.0,
    fusion="linear",
    weight=0.3,
)
ALONE = [{"specialist_labels": None}, {"text": None}]


@pytest.fixture
def encoded(rows) -> list[dict]:
    return encoded_rows(rows, np.random.default_rng(1))


@pytest.fixture
def table(encoded, planned, tmp_path) -> Path:
    write_table(tmp_path / "table", encoded, planned, files=2)
    return tmp_path / "table"


@pytest.mark.parametrize("change", [{}, {"ensemble": "probability"}, {"fusion": "loglinear"}, *ALONE])
def test_labels_from_the_table_are_those_from_the_encoders(table, encoded, planned, change):
    scorer, stored = replace(SCORER, **change), open_embeddings(str(table))
    parts = {"specialist": scorer.known, "alm": LABELS if scorer.text is not None else ()}
    expected = flatten(scorer(pa.Table.from_pylist(encoded, schema=ENCODED)), planned, LABELS, parts)
    told = module._Told(0)
    keys = {"alm": "alm"} if scorer.text is not None else {}
    keys |= {"specialist": "specialist"} if scorer.specialist_labels is not None else {}
    places = stored.places("alm", (1, 2, 3))
    pieces = [t for file in stored.files() for t in label_file(stored, file, scorer, keys, places, told)]
    found = pa.concat_tables(pieces)
    assert told.segments == len(found) == len(expected) > 10
    assert found.column_names == expected.column_names
    for name in found.column_names:
        if pa.types.is_floating(found[name].type):
            np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), atol=1e-6)
        elif name != "recording_uri":  # which a run writes without its secrets
            assert found[name].equals(expected[name]), name
    assert found.schema.types == expected.schema.types


def config(table: Path, **values: object) -> ScoreConfig:
    usual = ScoreConfig.usual({"embeddings": str(table)}) | {"embeddings": str(table)}
    return build(ScoreConfig, usual | {"output": str(table.parent / "out"), "labels": LABELS} | values)


def test_the_tables_models_and_decisions_are_taken(table):
    found, keys = with_tables_options(config(table), open_embeddings(str(table)))
    assert keys == {"alm": "alm", "specialist": "specialist"}
    assert (found.alm, found.specialist, found.item_s) == ("clap:untrained", "classifier:untrained", 20.0)
    with_tables_options(config(table, alm="clap:untrained"), open_embeddings(str(table)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"alm": "dual:untrained"}, "was made with --alm clap:untrained of revision a1, not dual:untrained"),
        ({"alm": "/no/such/folder"}, "/no/such/folder"),
        ({"specialist": "classifier:untrained"}, None),
        ({"alm": "none", "labels": ("blue", "green")}, "knows none of the labels"),
        ({"audio_repeats": (1, 7)}, "without audio repeats 7"),
        ({"output": "TABLE"}, "is the embedding table itself"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(table, values, said):
    if values.get("output"):
        values = {"output": f"{table}/../table"}
    if said is None:
        with_tables_options(config(table, **values), open_embeddings(str(table)))
        return
    with pytest.raises(InputError, match=said) as caught:
        rescore(config(table, **values), "")
    assert "\n" not in str(caught.value)
    assert not (table.parent / "out").exists()


def test_a_table_without_a_model_says_so(encoded, planned, tmp_path):
    models = {"specialist": MODELS["specialist"]}
    write_table(tmp_path / "table", encoded, planned, models)
    with pytest.raises(InputError, match="was made without one; use --alm none"):
        rescore(config(tmp_path / "table", alm="clap:untrained"), "")
    assert rescore(config(tmp_path / "table", max_reject_rate=1.0), "") == 0  # its own: none
    names = Output.open(str(tmp_path / "out")).read_table(SEGMENTS).column_names
    assert not any(name.startswith("alm_") for name in names)


class Alm(module.AudioLanguageModel):
    """An audio-language model that is only asked for its revision."""

    def __init__(self, revision: str):
        self.revision = revision

    put_together = features = audio = text = None  # type: ignore[assignment]


def test_other_weights_under_the_same_name_are_refused(table, monkeypatch):
    monkeypatch.setattr(module, "load", lambda spec: Alm("a2"))
    with pytest.raises(InputError, match="of revision a1, not clap:untrained of revision a2"):
        rescore(config(table), "")
    assert not (table.parent / "out").exists()


def test_a_run_writes_the_tables_once(table, monkeypatch, capsys):
    stored = open_embeddings(str(table))
    scorer = replace(SCORER, audio_repeats=2)
    monkeypatch.setattr(module, "_prepare", lambda config, stored, keys: (scorer, dict(stored.models)))
    asked = config(table, audio_repeats=(1, 3), max_reject_rate=0.0)
    assert rescore(asked, "") == 1  # what embedding could not read cannot be labelled
    out = Output.open(asked.output)
    run = json.loads((table.parent / "out" / RUN).read_text())
    assert run["status"] == "complete"
    assert len(out.read_table(SEGMENTS)) == run["counts"]["segments"] == stored.run["counts"]["segments"]
    assert out.read_table(REJECTS).equals(stored.out.read_table(REJECTS))
    recordings = out.read_table(RECORDINGS)
    assert recordings["duration_s"].equals(stored.out.read_table(RECORDINGS)["duration_s"])
    assert {"arc", "dominant_label", "share_angry", "emotion"} <= set(recordings.column_names)
    assert sum(run["counts"]["label_shares"].values()) == pytest.approx(1)
    assert set(run["effective_repetition"]) == {"1", "3"}
    assert run["config"]["embeddings"] == str(table)
    before = {path: path.stat().st_mtime_ns for path in (table.parent / "out").rglob("*")}
    capsys.readouterr()
    assert rescore(asked, "") == 1
    assert "nothing to do" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (table.parent / "out").rglob("*")}
    with pytest.raises(InputError, match=r"weight 0\.5 → 0\.1"):
        rescore(config(table, audio_repeats=(1, 3), weight=0.1), "")
    again = json.loads((table / RUN).read_text())
    (table / RUN).write_text(json.dumps(again | {"git": "another"}))
    with pytest.raises(InputError, match="another run's results"):  # the table was made anew
        rescore(asked, "")
    assert rescore(replace_options(asked, overwrite=True), "") == 1


def replace_options(asked: ScoreConfig, **values: object) -> ScoreConfig:
    from zsfuse_ray.config.options import resolved

    return build(ScoreConfig, resolved(asked) | values)


def test_the_table_says_which_model_to_load(table, monkeypatch):
    asked: list[ModelSpec] = []

    def load(spec: ModelSpec) -> Alm:
        asked.append(spec)
        return Alm("another")

    monkeypatch.setattr(module, "load", load)
    with pytest.raises(InputError):
        rescore(config(table), "")
    assert asked == [ModelSpec("clap", "untrained")]  # the specialist has said all that it can


def test_a_table_alone_names_no_code() -> None:
    """Naming a class imports its module, which a table from somebody else must not make anyone do."""
    table: Any = SimpleNamespace(
        out=SimpleNamespace(uri="s3://theirs"),
        models={"alm": {"model": "a.b:C"}},
        of_kind=lambda kind: ["alm"] if kind == "alm" else [],
    )
    with pytest.raises(InputError, match=r"s3://theirs was made with a\.b:C, .*: --alm a\.b:C$"):
        key_of("alm", "table", table)
    assert key_of("specialist", "table", table) is None
