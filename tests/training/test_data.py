"""Train and dev clips, and invalid input."""

from pathlib import Path

import pytest

from zsfuse_ray.config.options import build
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.training.data import about_dev, counted, fingerprint, training_table, with_dev_speakers


def manifest(path: Path, *lines: str, columns: str = "uri,emotion,speaker,split") -> Path:
    path.write_text("\n".join([columns, *lines]) + "\n")
    return path


def table(train: Path, **options: object):
    return training_table(build(TrainConfig, {"init": "a", "output": "b", "train": str(train)} | options))


def rows(found) -> list[tuple[str, str, str]]:
    names = [Path(uri).name for uri in found["uri"].to_pylist()]
    return list(zip(names, found["emotion"].to_pylist(), found["split"].to_pylist(), strict=True))


def test_manifest_assigns_dev(tmp_path: Path) -> None:
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


def test_labels_option_filters_clips(tmp_path: Path) -> None:
    train = manifest(
        tmp_path / "t.csv", "a,happy,1,train", "b,sad,2,train", "c,calm,3,train", "d,angry,4,dev"
    )
    assert [emotion for _, emotion, _ in rows(table(train, labels="happy,sadness"))] == ["happy", "sad"]


def test_speaker_in_train_and_dev_is_rejected(tmp_path: Path) -> None:
    columns = "uri,emotion,speaker,corpus"
    train = manifest(tmp_path / "t.csv", "a,happy,1,x", "b,sad,2,x", columns=columns)
    dev = manifest(tmp_path / "d.csv", "c,sad,2,x", "d,happy,3,x", columns=columns)
    with pytest.raises(InputError, match="speaker 2 of x is in both train and dev"):
        table(train, dev=str(dev))
    same_clip = manifest(tmp_path / "e.csv", "a,sad,5,x", "d,happy,3,x", columns=columns)
    with pytest.raises(InputError, match="in both train and dev"):
        table(train, dev=str(same_clip))


def test_dev_label_without_training_clips_is_rejected(tmp_path: Path) -> None:
    train = manifest(tmp_path / "t.csv", "a,happy,1,train", "b,sad,2,train", "c,calm,3,dev")
    with pytest.raises(InputError, match=r"without training clips: calm.*--labels happy,sad"):
        table(train)


def test_fingerprint_depends_on_the_clips(tmp_path: Path) -> None:
    one = table(manifest(tmp_path / "t.csv", "a,happy,1,train", "b,sad,2,train"))
    two = table(manifest(tmp_path / "t.csv", "a,happy,1,train", "b,angry,2,train"))
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(two)
    assert counted(one) == "2 train (t 2)"


VOICES = [f"{s}{e},{e},{s},train" for s in range(5) for e in ("happy", "sad")]


def held_out(train: Path, **options: object):
    """The table after the choice of dev speakers, these speakers, and the line about them."""
    config = build(TrainConfig, {"init": "a", "output": "b", "train": str(train)} | options)
    found, speakers = with_dev_speakers(training_table(config), config)
    return found, speakers, about_dev(found, config, speakers)


@pytest.mark.parametrize("columns", ["uri,emotion,speaker", "uri,emotion,speaker,split"])
def test_a_fifth_of_the_speakers_is_held_out_without_dev_clips(tmp_path: Path, columns: str) -> None:
    lines = [line if "split" in columns else line.removesuffix(",train") for line in VOICES]
    found, speakers, message = held_out(manifest(tmp_path / "t.csv", *lines, columns=columns))
    ((corpus, (speaker,)),) = speakers.items()
    assert message == f"held out for dev: speakers {speaker} (20% of clips)"
    assert corpus == "t"
    of_split = {(row["split"], row["speaker"]) for row in found.to_pylist()}
    assert of_split == {("dev" if str(s) == speaker else "train", str(s)) for s in range(5)}


def test_seed_determines_held_out_speakers(tmp_path: Path) -> None:
    train = manifest(tmp_path / "t.csv", *VOICES)
    chosen = [held_out(train, seed=seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert fingerprint(chosen[0]) == fingerprint(chosen[1])
    assert len({fingerprint(table) for table in chosen}) > 1


def test_held_out_speakers_are_listed_by_corpus(tmp_path: Path) -> None:
    lines = [line.removesuffix("train") + corpus for line in VOICES for corpus in ("x", "y")]
    train = manifest(tmp_path / "t.csv", *lines, columns="uri,emotion,speaker,corpus")
    _, speakers, message = held_out(train)
    ((_, (a,)), (_, (b,))) = speakers.items()
    assert message == f"held out for dev: speakers x {a}; y {b} (20% of clips)"


def test_none_held_out_with_dev_clips_or_dev_none(tmp_path: Path) -> None:
    with_dev = manifest(tmp_path / "t.csv", *VOICES, "d,happy,9,dev")
    assert held_out(with_dev)[1:] == ({}, None)
    found, speakers, message = held_out(with_dev, dev="none")
    assert (set(found["split"].to_pylist()), len(found), speakers) == ({"train"}, 10, {})
    assert message == "no dev clips, so no epoch is evaluated and the last one is saved: --dev none"
    columns = "uri,emotion,speaker"
    dev = manifest(tmp_path / "d.csv", "c,sad,9", "d,happy,9", columns=columns)
    assert held_out(manifest(tmp_path / "u.csv", *VOICES), dev=str(dev))[1:] == ({}, None)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["a,happy,", "b,sad,"], "2 of 2 clips have no speaker; give dev clips with --dev"),
        (["a,happy,1", "b,sad,1"], "no speaker can be held out without losing a label"),
        (["a,happy,1", "b,sad,2"], "no speaker can be held out without losing a label"),
    ],
)
def test_reason_for_no_dev_clips_is_reported(tmp_path: Path, lines: list[str], why: str) -> None:
    found, speakers, message = held_out(manifest(tmp_path / "t.csv", *lines, columns="uri,emotion,speaker"))
    assert speakers == {}
    assert set(found["split"].to_pylist()) == {"train"}
    assert message is not None
    assert message.startswith("no dev clips, so no epoch is evaluated and the last one is saved: ")
    assert why in message


def test_long_list_of_speakers_is_truncated(tmp_path: Path) -> None:
    lines = [f"{s}{e},{e},{s:03}" for s in range(100) for e in ("happy", "sad")]
    _, speakers, message = held_out(manifest(tmp_path / "t.csv", *lines, columns="uri,emotion,speaker"))
    assert len(speakers["t"]) == 20
    assert message is not None
    assert message.endswith(" and 8 more (20% of clips)")
