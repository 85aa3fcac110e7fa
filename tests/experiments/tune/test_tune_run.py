"""Invalid clips and output give a one-line error before Ray starts and any model loads."""

import csv
from pathlib import Path

import pytest
import ray

from zsfuse_ray.config.options import build
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.tune.run import tune

HEADER = ("uri", "emotion", "speaker", "split")
GOOD = [
    (f"{speaker}_{label}.wav", label, speaker, split)
    for speaker, split in (("a", "train"), ("b", "train"), ("c", "dev"), ("d", "dev"), ("e", "test"))
    for label in ("sad", "happy")
]


def refusal(folder: Path, rows: list, columns: int = 3, **options: object) -> str:
    path = folder / "clips.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER[:columns], *(row[:columns] for row in rows)])
    config = build(TuneConfig, {"input": str(path), "output": str(folder / "out"), "folds": 3, **options})
    with pytest.raises(InputError) as refused:
        tune(config, "")
    assert not ray.is_initialized()
    assert not (folder / "out").exists() or not list((folder / "out").glob("*.json"))
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_no_labels(tmp_path):
    (tmp_path / "other.csv").write_text("uri,speaker\na.wav,a\n")
    config = build(TuneConfig, {"input": str(tmp_path / "other.csv"), "output": str(tmp_path / "out")})
    with pytest.raises(InputError, match="no label column emotion"):
        tune(config, "")


def test_one_class(tmp_path):
    assert 'every clip is labelled "sad"' in refusal(tmp_path, [row for row in GOOD if row[1] == "sad"])


def test_fewer_speakers_than_folds(tmp_path):
    message = refusal(tmp_path, GOOD, folds=6)
    assert "5 speakers, too few for 6 folds" in message
    assert "lower --folds" in message


def test_with_splits_only_dev_clips_are_chosen_on(tmp_path):
    message = refusal(tmp_path, GOOD, columns=4)
    assert "2 speakers, too few for 3 folds (of --parts dev)" in message


def test_missing_part(tmp_path):
    rows = [row for row in GOOD if row[3] != "test"]
    message = refusal(tmp_path, rows, columns=4, parts="test")
    assert "no clip is in --parts test; the clips are in dev, train" in message


def test_single_class_in_the_chosen_part(tmp_path):
    rows = [row for row in GOOD if row[3] != "dev" or row[1] == "sad"]
    assert 'every clip to choose on is labelled "sad"' in refusal(tmp_path, rows, columns=4)


def test_missing_checkpoint(tmp_path):
    assert f"{tmp_path}/none" in refusal(tmp_path, GOOD, specialist=f"classifier:{tmp_path}/none")


def test_foreign_folder(tmp_path):
    (tmp_path / "out" / "figures").mkdir(parents=True)
    assert "no tuning wrote it" in refusal(tmp_path, GOOD)
