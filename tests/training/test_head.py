"""From a manifest of corrections to relabelled tables, without audio, Ray, torch or a browser."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.archive.encoded_folders import BOTH, LABELS, MODELS, THEIRS, Small, output_of, small_archive
from zsfuse_ray.archive.elsewhere import label_table
from zsfuse_ray.archive.heads import SavedHead, head_of, open_head
from zsfuse_ray.archive.layout import RUN, SEGMENTS
from zsfuse_ray.config.options import build, load_config
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.few_labels import USUAL_STRENGTH
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.training.head import HeadResult, possible, train_head, with_new

TABLE = "table"


@pytest.fixture
def small(tmp_path: Path) -> Small:
    small = small_archive(tmp_path / TABLE)
    small.encode(BOTH)
    return small


def labelled(small: Small, name: str, **options: Any) -> Output:
    """Label the table with the specialist alone, which loads no model."""
    usual = {"embeddings": small.out.uri, "alm": "none", "specialist": "table", "max_reject_rate": 1.0}
    place = f"{small.out.uri}/../{name}"
    config = build(ScoreConfig, usual | {"output": place, "labels": (*LABELS, "bored")} | options)
    return label_table(config, "").out


def rows_of(out: Output) -> list[dict[str, Any]]:
    return out.read_table(SEGMENTS).sort_by("segment_id").to_pylist()


def corrections(rows: list[dict[str, Any]], path: Path, wanted: dict[int, str]) -> str:
    """Write the page's manifest: rows with other emotions."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "start_s", "end_s", "emotion", "predicted", "chosen_by"])
        for row, emotion in wanted.items():
            one = rows[row]
            place = (one["recording_uri"], one["start_s"], one["end_s"])
            writer.writerow([*place, emotion, one["label"], "random"])
    return str(path)


def fit(small: Small, tmp_path: Path, manifest: str | None, **options: Any) -> HeadResult:
    given = {"from_table": small.out.uri, "train": manifest, "output": str(tmp_path / "my_head")}
    return train_head(build(TrainConfig, given | options), "zsfuse train …")


@pytest.fixture
def saved(small: Small, tmp_path: Path) -> Path:
    rows = rows_of(labelled(small, "before"))
    fit(small, tmp_path, corrections(rows, tmp_path / "c.csv", {0: "sad", 1: "angry", 2: "bored"}))
    return tmp_path / "my_head"


def test_corrections_change_the_labels_of_their_segments(small: Small, tmp_path: Path) -> None:
    before = rows_of(labelled(small, "before"))
    order = (*LABELS, "bored")
    wanted = {n: order[(order.index(row["label"]) + 1) % 4] for n, row in enumerate(before[:5])}
    result = fit(small, tmp_path, corrections(before, tmp_path / "c.csv", wanted))
    out = labelled(small, "after", head=result.out.uri)
    after = rows_of(out)
    assert {n: after[n]["label"] for n in wanted} == wanted
    assert after[0].keys() >= {"specialist_bored", "specialist_pleasant_surprise"}  # the head's own labels
    run = out.read_json(RUN)
    assert run is not None
    assert run["models"]["specialist"]["labels"] == [*THEIRS, "bored", "surprised"]
    assert run["models"]["specialist"]["head"]["folder"] == result.out.uri
    assert result.about["strength"] == USUAL_STRENGTH
    assert "fewer than 5" in result.summary
    card = (tmp_path / "my_head" / "README.md").read_text()
    assert "5 segments of " in card
    assert "classifier:untrained" in card


def test_the_digest_follows_the_head(small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = rows_of(labelled(small, "before"))
    caplog.set_level("INFO")
    digests = []
    for wanted in ({0: "sad", 1: "angry"}, {0: "sad", 1: "angry"}, {0: "angry", 1: "sad"}):
        fit(small, tmp_path, corrections(rows, tmp_path / "c.csv", wanted), overwrite=True)
        caplog.clear()
        run = labelled(small, "after", head=str(tmp_path / "my_head")).read_json(RUN)
        assert run is not None
        digests.append((run["digest"], "nothing to do" in caplog.text))
    assert digests[0][0] == digests[1][0] != digests[2][0]
    assert [done for _, done in digests] == [False, True, False]


def test_a_table_supplies_its_own_labels(small: Small, tmp_path: Path) -> None:
    result = fit(small, tmp_path, None)  # its emotions are e0 and e1
    assert open_head(result.out.uri).head.labels == (*THEIRS, "e0", "e1")


def test_a_saved_head_computes_what_was_fitted(small: Small, saved: Path) -> None:
    head = open_head(str(saved)).head
    segment = small.rows[0]["segments"][0]
    logits, vector = output_of(segment, "specialist"), output_of(segment, "specialist", 1)
    tensors = safetensors.numpy.load_file(saved / "head.safetensors")
    moved = tensors["weight"] @ vector + tensors["bias"]
    found = head.logits(logits[None], vector[None])[0]
    np.testing.assert_allclose(found[: len(THEIRS)], logits + moved[: len(THEIRS)], rtol=1e-5)


def test_the_fit_compares_only_labels_that_could_be_given(small: Small, tmp_path: Path) -> None:
    """Of a table that was labelled in place, those of its run; joy, which was not offered, keeps its logits."""
    run = {"versions": {"zsfuse_ray": "1"}, "config": {"labels": ["angry", "sad", "neutral"]}}
    rows = rows_of(labelled(small, "before"))
    small.out.write_json(RUN, run)
    fit(small, tmp_path, corrections(rows, tmp_path / "c.csv", {0: "sad", 1: "angry"}))
    weight = open_head(str(tmp_path / "my_head")).head.weight
    assert [bool(np.abs(row).max() > 0) for row in weight] == [True, True, True, False]


def test_labels_by_any_of_their_names() -> None:
    assert with_new(("Anger", "joy"), ("angry", "smug", "happy", "bored")) == (
        "Anger",
        "joy",
        "bored",
        "smug",
    )
    labels = ("joy", "happiness", "sad", "calm", "smug")
    found = possible(labels, ("smug", "sad"), ("happy", "sad", "unknown"))
    assert found.tolist() == [True, False, True, False, True]


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_head_of_another_specialist_is_refused(saved: Path) -> None:
    one: SavedHead = open_head(str(saved))
    facts = MODELS["specialist"]
    one.check(facts)
    assert "not of classifier:there of revision s2" in refusal(one.check, MODELS["specialist2"])
    assert "vector_dim 5, not 6" in refusal(one.check, facts | {"vector_dim": 6})
    assert "labels" in refusal(one.check, facts | {"labels": ["a", "b"]})
    config = build(ScoreConfig, {"input": "demo", "output": "out", "head": str(saved)})
    assert "needs the specialist" in refusal(head_of, config, None)


def edit(saved: Path, **values: Any) -> None:
    about = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(about | values))


def tensors(saved: Path, weight: Any) -> None:
    safetensors.numpy.save_file(
        {"weight": weight, "bias": np.zeros(5, np.float32)}, saved / "head.safetensors"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda saved: (saved / "config.json").unlink(), "has no config.json"),
        (lambda saved: (saved / "head.safetensors").unlink(), "has no head.safetensors"),
        (lambda saved: (saved / "head.safetensors").write_bytes(b"x"), "is damaged"),
        (lambda saved: (saved / "config.json").write_text("{}"), "zsfuse_ray did not write it"),
        (lambda saved: edit(saved, labels=["a"]), "do not begin with those of its specialist"),
        (lambda saved: edit(saved, labels=[*THEIRS, "bo\nred"]), "not printable"),
        (lambda saved: edit(saved, temperature=0), "not finite"),
        (lambda saved: edit(saved, specialist=None), "is damaged"),
        (lambda saved: edit(saved, normalise="x"), "normalise x"),
        (lambda saved: tensors(saved, np.zeros((5, 3), np.float32)), "weights of shape (5, 3)"),
        (lambda saved: tensors(saved, np.full((5, 5), np.nan, np.float32)), "not finite"),
    ],
)
def test_a_damaged_head_is_one_line(saved: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(saved)
    assert message in refusal(open_head, str(saved))


def test_a_folder_in_use_is_not_overwritten(small: Small, saved: Path, tmp_path: Path) -> None:
    assert "--overwrite" in refusal(fit, small, tmp_path, None)
    fit(small, tmp_path, None, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("mine")
    assert "README.md exists" in refusal(fit, small, tmp_path, None, output=str(tmp_path / "other"))


def test_a_table_without_vectors_or_specialist_is_refused(tmp_path: Path) -> None:
    alone = small_archive(tmp_path / "alone")
    alone.encode({"alm": BOTH["alm"]})
    assert "encoded without a specialist" in refusal(fit, alone, tmp_path, None)


def test_normalising_needs_a_head_for_normalised_vectors(small: Small, tmp_path: Path) -> None:
    message = refusal(fit, small, tmp_path, None, normalise="recording")
    assert "classifier:untrained has no head for normalised vectors" in message


def test_a_head_has_its_temperature_in_it() -> None:
    given = {"input": "demo", "output": "out"}
    assert load_config(ScoreConfig, **given)[0].specialist_temperature == 0.86
    assert load_config(ScoreConfig, **given, head="h")[0].specialist_temperature == 1
    assert (
        load_config(ScoreConfig, **given, head="h", specialist_temperature=2)[0].specialist_temperature == 2
    )
    assert "--head needs the specialist" in refusal(
        build, ScoreConfig, given | {"head": "h", "specialist": "none"}
    )


def test_fitting_imports_neither_torch_nor_ray() -> None:
    code = "import sys, zsfuse_ray.training.head; print(*{'torch', 'ray', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
