"""Invalid clips, splits and output give a one-line error before Ray starts and any model loads."""

import csv
import json
from pathlib import Path

import pytest
import ray

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import build
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.evaluate import evaluate

HEADER = ("uri", "emotion", "speaker", "split")
GOOD = [
    (f"{speaker}_{label}.wav", label, speaker, split)
    for speaker, split in (("a", "train"), ("b", "train"), ("c", "dev"), ("d", "test"))
    for label in ("sad", "happy")
]


def manifest(folder: Path, rows: list, header: tuple = HEADER) -> Path:
    path = folder / "clips.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def refusal(folder: Path, source: object, **options: object) -> str:
    config = build(EvaluateConfig, {"input": str(source), "output": str(folder / "out"), **options})
    with pytest.raises(InputError) as refused:
        evaluate(config, "")
    assert not ray.is_initialized()
    message = str(refused.value)
    assert "\n" not in message
    return message


def with_split(rows: list, **splits: str) -> list:
    return [(uri, label, speaker, splits.get(speaker, split)) for uri, label, speaker, split in rows]


def test_a_missing_label_column(tmp_path):
    path = manifest(tmp_path, [(row[0], row[2], row[3]) for row in GOOD], ("uri", "speaker", "split"))
    assert "no label column emotion" in refusal(tmp_path, path)


def test_one_class(tmp_path):
    path = manifest(tmp_path, [row for row in GOOD if row[1] == "sad"])
    assert 'every clip is labelled "sad"' in refusal(tmp_path, path)


def test_one_class_in_one_of_two_corpora(tmp_path):
    (tmp_path / "other").mkdir()
    other = manifest(tmp_path / "other", [row for row in GOOD if row[1] == "sad"])
    other = other.rename(tmp_path / "other" / "others.csv")
    assert "others" in refusal(tmp_path, f"{manifest(tmp_path, GOOD)},{other}")


def test_a_speaker_in_both_splits(tmp_path):
    path = manifest(tmp_path, [*GOOD, ("x.wav", "sad", "c", "test")])
    assert "speaker c" in refusal(tmp_path, path)


def test_no_dev_split(tmp_path):
    path = manifest(tmp_path, with_split(GOOD, c="train"))
    message = refusal(tmp_path, path)
    assert "no clip is in split dev" in message
    assert "omit the splits for folds by speaker" in message


def test_no_test_split(tmp_path):
    assert "no clip is in split test" in refusal(tmp_path, manifest(tmp_path, with_split(GOOD, d="dev")))


def test_no_such_corpus(tmp_path):
    config = {"input": (), "corpus": f"emobd:{tmp_path}", "output": str(tmp_path / "out")}
    with pytest.raises(InputError, match="emodb"):
        evaluate(build(EvaluateConfig, config), "")


def test_no_such_folder(tmp_path):
    config = {"input": (), "corpus": f"emodb:{tmp_path / 'missing'}", "output": str(tmp_path / "out")}
    with pytest.raises(InputError, match="missing"):
        evaluate(build(EvaluateConfig, config), "")


def test_no_such_split_file(tmp_path):
    assert "missing.csv" in refusal(tmp_path, manifest(tmp_path, GOOD), splits=str(tmp_path / "missing.csv"))


def test_fewer_speakers_than_folds(tmp_path):
    path = manifest(tmp_path, [row[:3] for row in GOOD], HEADER[:3])
    assert "4 speakers, too few for 5 folds" in refusal(tmp_path, path)


def test_label_without_clips(tmp_path):
    assert 'no clip is labelled "angry"' in refusal(tmp_path, manifest(tmp_path, GOOD), labels="sad,angry")


def test_missing_checkpoint(tmp_path):
    message = refusal(tmp_path, manifest(tmp_path, GOOD), specialist=f"classifier:{tmp_path}/none")
    assert f"{tmp_path}/none" in message


def test_another_evaluation_in_the_output(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    path = manifest(tmp_path, GOOD)
    (out / "evaluation.json").write_text(json.dumps({"versions": {"zsfuse_ray": "1"}}))
    assert "--overwrite" in refusal(tmp_path, path)
    (out / "evaluation.json").unlink()
    (out / "figures").mkdir()
    assert "no evaluation wrote it" in refusal(tmp_path, path, overwrite=True)
    assert (out / "figures").exists()
