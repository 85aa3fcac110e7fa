"""Which clips train and which choose the epoch, and what is refused."""

from pathlib import Path

import pytest

from zsfuse_ray.config.options import build
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.training.data import counted, fingerprint, training_table


def manifest(path: Path, *lines: str, columns: str = "uri,emotion,speaker,split") -> Path:
    path.write_text("\n".join([columns, *lines]) + "\n")
    return path


def table(train: Path, **options: object):
    return training_table(build(TrainConfig, {"init": "a", "output": "b", "train": str(train)} | options))


def rows(found) -> list[tuple[str, str, str]]:
    names = [Path(uri).name for uri in found["uri"].to_pylist()]
    return list(zip(names, found["emotion"].to_pylist(), found["split"].to_pylist(), strict=True))


def test_a_manifest_says_who_is_in_dev(tmp_path: Path) -> None:
    train = manifest(
        tmp_path / "t.csv", "a,happy,1,train", "b,sadness,2,train", "c,sad,3,validation", "d,sad,4,test"
    )
    assert rows(table(train)) == [("a", "happy", "train"), ("b", "sad", "train"), ("c", "sad", "dev")]


def test_manifests_without_splits(tmp_path: Path) -> None:
    columns = "uri,emotion,speaker"
    train = manifest(tmp_path / "t.csv", "a,happy,1", "b,sad,2", columns=columns)
    dev = manifest(tmp_path / "d.csv", "c,sad,3", "d,happy,4", columns=columns)
    assert [split for *_, split in rows(table(train))] == ["train", "train"]
    assert [split for *_, split in rows(table(train, dev=str(dev)))] == ["train", "train", "dev", "dev"]


def test_labels_asked_for_are_the_only_ones(tmp_path: Path) -> None:
    train = manifest(
        tmp_path / "t.csv", "a,happy,1,train", "b,sad,2,train", "c,calm,3,train", "d,angry,4,dev"
    )
    assert [emotion for _, emotion, _ in rows(table(train, labels="happy,sadness"))] == ["happy", "sad"]


def test_a_speaker_on_both_sides_is_refused(tmp_path: Path) -> None:
    columns = "uri,emotion,speaker,corpus"
    train = manifest(tmp_path / "t.csv", "a,happy,1,x", "b,sad,2,x", columns=columns)
    dev = manifest(tmp_path / "d.csv", "c,sad,2,x", "d,happy,3,x", columns=columns)
    with pytest.raises(InputError, match="speaker 2 of x is in both train and dev"):
        table(train, dev=str(dev))
    same_clip = manifest(tmp_path / "e.csv", "a,sad,5,x", "d,happy,3,x", columns=columns)
    with pytest.raises(InputError, match="in both train and dev"):
        table(train, dev=str(same_clip))


def test_dev_cannot_hold_what_nobody_learned(tmp_path: Path) -> None:
    train = manifest(tmp_path / "t.csv", "a,happy,1,train", "b,sad,2,train", "c,calm,3,dev")
    with pytest.raises(InputError, match=r"labelled calm.*--labels happy,sad"):
        table(train)


def test_a_fingerprint_tells_other_clips(tmp_path: Path) -> None:
    one = table(manifest(tmp_path / "t.csv", "a,happy,1,train", "b,sad,2,train"))
    two = table(manifest(tmp_path / "t.csv", "a,happy,1,train", "b,angry,2,train"))
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(two)
    assert counted(one) == "2 train (t 2)"
