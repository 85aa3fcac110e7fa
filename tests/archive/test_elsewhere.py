"""Labels from another output's embedding table: options taken from it, errors and written tables."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.archive.encoded_folders import BOTH, LABELLING, LABELS, MODELS, Small, every_segment, small_archive
from zsfuse_ray.archive import describe, elsewhere
from zsfuse_ray.archive.console import exit_code
from zsfuse_ray.archive.describe import Loaded, Prompts
from zsfuse_ray.archive.elsewhere import _with_tables_options, label_table
from zsfuse_ray.archive.layout import PASSES, PLAN, RECORDINGS, RUN, SEGMENTS
from zsfuse_ray.archive.parts import LabelTask, label_part
from zsfuse_ray.archive.passes import Computed
from zsfuse_ray.archive.table import open_table
from zsfuse_ray.config.options import build, resolved
from zsfuse_ray.config.score import OPERATIONAL, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec
from zsfuse_ray.runs.folder import REJECTS, Output


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return small_archive(tmp_path / "table")


@pytest.fixture
def out(tmp_path: Path) -> Output:
    return Output.open(str(tmp_path / "out"))


def config(small: Small, **values: object) -> ScoreConfig:
    usual = ScoreConfig.usual({"embeddings": small.out.uri}) | {"embeddings": small.out.uri}
    place = {"output": f"{small.out.uri}/../out", "labels": LABELS, "max_reject_rate": 1.0}
    return build(ScoreConfig, usual | place | {"audio_repeats": (1, 2)} | values)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list:
    """Replaces the loading of models by fixed prompts; contains the arguments of each call."""
    arguments: list = []

    def look(specs: Mapping[str, ModelSpec], known: dict, keys: dict, config: ScoreConfig):
        assert keys == {kind: kind for kind in known}
        arguments.append((specs.get("alm"), known))
        bank = np.asarray(LABELLING.text)[None]
        return Loaded(known, Prompts(bank, LABELLING.scale, {"1": 0}) if specs else None)

    monkeypatch.setattr(elsewhere, "look_at_models", look)
    return arguments


def refusal(options: ScoreConfig) -> str:
    with pytest.raises(InputError) as caught:
        label_table(options, "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_and_encoding_options_come_from_the_table(small: Small) -> None:
    small.encode(BOTH)
    found, keys = _with_tables_options(config(small), open_table(small.out.uri))
    assert keys == {"alm": "alm", "specialist": "specialist"}
    assert (found.alm, found.specialist) == ("clap:untrained", "classifier:untrained")
    assert (found.item_s, found.vad, found.crop) == (20.0, "silero", "head")
    _, keys = _with_tables_options(config(small, alm="clap:untrained"), open_table(small.out.uri))
    assert keys["alm"] == "alm"
    _, keys = _with_tables_options(config(small, specialist="none"), open_table(small.out.uri))
    assert keys == {"alm": "alm"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"alm": "dual:untrained"},
            "was encoded with --alm clap:untrained of revision None, not dual:untrained",
        ),
        ({"alm": "/no/such/folder"}, "/no/such/folder"),
        ({"alm": "none", "labels": ("blue", "green")}, "covers none of the labels"),
        ({"audio_repeats": (1, 7)}, "without audio repeats 7"),
        ({"output": "TABLE"}, "is the embedding table itself"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(
    small: Small, out: Output, values: dict, message: str
) -> None:
    small.encode(BOTH)
    if values.get("output"):
        values = {"output": f"{small.out.uri}/../table"}
    assert message in refusal(config(small, **values))
    assert not Path(out.root).exists()


def test_a_table_is_refused_if_a_wanted_model_is_incomplete(small: Small, out: Output, loads) -> None:
    encoded = small.encode({"specialist": Computed()}, {"alm": Computed((1,))})
    encoded.with_pass(replace(encoded.passes[1], complete=False))
    assert "incomplete" in refusal(config(small))
    assert not Path(out.root).exists()
    assert label_table(config(small, alm="none"), "").record["status"] == "complete"


def test_other_weights_under_the_same_name_are_refused(small: Small, out: Output, monkeypatch) -> None:
    """Only the ALM is loaded, to embed its prompts."""
    monkeypatch.setitem(MODELS, "alm", MODELS["alm"] | {"revision": "a1"})
    small.encode(BOTH)
    loaded: list[ModelSpec] = []

    def load(spec: ModelSpec) -> SimpleNamespace:
        loaded.append(spec)
        return SimpleNamespace(kind="alm", **MODELS["alm"] | {"revision": "a2"})

    monkeypatch.setattr(describe, "load", load)
    monkeypatch.setattr(describe, "embed_bank", lambda *arguments: (LABELLING.text[None], {"1": 0}))
    message = refusal(config(small))
    assert (
        "--alm clap:untrained now has revision a2, but encoded/ is by clap:untrained of revision a1"
        in message
    )
    assert loaded == [ModelSpec("clap", "untrained")]
    assert not Path(out.root).exists()


def test_a_table_without_an_alm(small: Small, out: Output, loads: list) -> None:
    small.encode({"specialist": Computed()})
    assert "was encoded without one; use --alm none" in refusal(config(small, alm="clap:untrained"))
    assert label_table(config(small), "").record["status"] == "complete"  # by default without an ALM
    names = out.read_table(SEGMENTS).column_names
    assert not any(name.startswith("alm_") for name in names)
    assert [alm for alm, _ in loads] == [None]


def test_the_models_loaded_are_those_of_the_table(small: Small, loads: list) -> None:
    small.encode(BOTH)
    label_table(config(small), "")
    ((alm, facts),) = loads
    assert alm == ModelSpec("clap", "untrained")
    assert facts == {"alm": MODELS["alm"], "specialist": MODELS["specialist"]}


def test_tables_match_those_of_labelling_in_place(small: Small, out: Output, loads: list) -> None:
    encoded = small.encode(BOTH)
    decides = ("ensemble", "temperature", "fusion", "weight")
    label_table(config(small, **{name: getattr(LABELLING, name) for name in decides}), "")
    keys, wanted = {"alm": "alm", "specialist": "specialist"}, {"alm": (1, 2), "specialist": ()}
    here = LabelTask(small.plan, encoded, small.out, LABELLING, keys, wanted, {}, "")
    for part in small.parts:
        label_part(here, part)
    for name in (SEGMENTS, RECORDINGS, REJECTS):
        assert out.read_table(name).equals(small.out.read_table(name))


def times(out: Output) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path(out.root).rglob("*")}


def test_a_run_writes_the_tables_once(small: Small, out: Output, loads: list, caplog) -> None:
    small.encode(BOTH)
    first = config(small, max_reject_rate=0.0)
    result = label_table(first, "")
    assert exit_code(result.record["counts"], 0.0) == 1  # items that failed to decode are not labelled
    run = json.loads((Path(out.root) / RUN).read_text())
    assert result.record == run
    assert len(result.segments()) == run["counts"]["segments"]
    assert len(result.recordings()) == run["counts"]["recordings"] - run["counts"]["unreadable"]
    assert len(result.rejects()) == sum(run["counts"]["rejects"].values())
    assert run["status"] == "complete"
    assert len(out.read_table(SEGMENTS)) == run["counts"]["segments"] == len(every_segment(small.rows))
    assert sum(run["counts"]["label_shares"].values()) == pytest.approx(1)
    assert set(run["effective_repetition"]) == {"1", "2"}
    assert run["config"]["embeddings"] == small.out.uri
    assert (run["config"]["alm"], run["config"]["item_s"]) == ("clap:untrained", 20.0)
    assert not OPERATIONAL & set(run["config"])
    assert run["models"]["alm"]["prompts"] == 2
    assert run["time"]["audio_hours_this_time"] == 0
    before = times(out)
    caplog.clear()
    caplog.set_level("INFO")
    assert label_table(first, "").record == run
    assert caplog.messages == [f"{result.uri} is complete; nothing to do"]
    assert times(out) == before
    assert len(loads) == 1


def test_other_options_label_again(small: Small, out: Output, loads: list) -> None:
    small.encode(BOTH)
    label_table(config(small, weight=0.0), "")
    segments = out.read_table(SEGMENTS)
    label_table(config(small, weight=1.0), "")
    again = out.read_table(SEGMENTS)
    assert not again["p_sad"].equals(segments["p_sad"])
    assert again["alm_sad"].equals(segments["alm_sad"])
    assert again["p_sad"].equals(again["alm_sad"])  # w = 1 is the ALM alone
    assert json.loads((Path(out.root) / RUN).read_text())["config"]["weight"] == 1.0


def test_a_rebuilt_table_is_labelled_again(small: Small, out: Output, loads: list) -> None:
    small.encode(BOTH)
    label_table(config(small), "")
    plan = json.loads((Path(small.out.root) / PLAN).read_text())
    (Path(small.out.root) / PLAN).write_text(json.dumps(plan | {"id": "another"}))
    before = times(out)
    assert label_table(config(small), "").record["status"] == "complete"
    assert times(out) != before


def test_an_output_folder_with_other_content_is_refused(
    small: Small, out: Output, loads: list, tmp_path
) -> None:
    small.encode(BOTH)
    label_table(config(small), "")
    small.out.fs.move(small.out.root, str(tmp_path / "moved"))
    moved = build(ScoreConfig, resolved(config(small)) | {"embeddings": str(tmp_path / "moved")})
    assert "another run's results (embeddings" in refusal(moved)
    assert label_table(replace(moved, overwrite=True), "").record["status"] == "complete"
    out.delete(RUN)
    assert "exists, but no run wrote it" in refusal(moved)


def test_the_table_is_kept_without_keep_encoded(small: Small, out: Output, loads: list) -> None:
    """--keep-encoded no deletes only what the run itself has encoded."""
    small.encode(BOTH)
    before = times(small.out)
    assert label_table(config(small, keep_encoded=False), "").record["status"] == "complete"
    assert times(small.out) == before
    record = small.out.read_json(PASSES)
    assert record is not None
    assert [one["dropped"] for one in record["passes"]] == [False]
