import logging

import pyarrow as pa
import pytest

from tests.corpora.fake_corpora import clips, refusal
from zsfuse_ray.corpora.clips import (
    CLIPS,
    check_classes,
    check_splits,
    label_set,
    labelled,
    shared_speakers,
    with_labels,
)


def table(**columns: list) -> pa.Table:
    size = len(next(iter(columns.values())))
    return pa.table({"uri": [f"{i}.wav" for i in range(size)], **columns})


def test_normalises_known_names_and_keeps_own_labels() -> None:
    given = table(emotion=["Anger", " happiness ", "Sarcastic", "PS"], gender=["F", "Male", "unknown", "x"])
    tidy = labelled(given, corpus="mine")
    assert tidy.schema == CLIPS
    assert tidy["emotion"].to_pylist() == ["angry", "happy", "sarcastic", "surprised"]
    assert tidy["gender"].to_pylist() == ["female", "male", None, "x"]
    assert tidy["corpus"].to_pylist() == ["mine"] * 4
    assert tidy["start_s"].null_count == tidy["fold"].null_count == 4


def test_normalises_splits_folds_corpora_and_speakers() -> None:
    given = table(
        emotion=["sad"] * 5,
        split=["Training", "validation", "test", "", None],
        fold=["1", "2", " 3", "", None],
        corpus=["a", "", None, "b", "b"],
        speaker=["01", "Unknown", "", " x ", None],
    )
    tidy = labelled(given, corpus="rest")
    assert tidy["split"].to_pylist() == ["train", "dev", "test", None, None]
    assert tidy["fold"].to_pylist() == [1, 2, 3, None, None]
    assert tidy["corpus"].to_pylist() == ["a", "rest", "rest", "b", "b"]
    assert tidy["speaker"].to_pylist() == ["01", None, None, "x", None]


def test_keeps_extra_columns() -> None:
    given = table(emotion=["sad", "calm"], style=["loud", None], rating=[1, 2], size=[7, 8], deep=[[1], [2]])
    tidy = labelled(given)
    assert tidy.column_names == [*CLIPS.names, "style", "rating"]
    assert tidy["rating"].to_pylist() == [1, 2]


def test_invalid_labels_are_errors() -> None:
    message = refusal(labelled, table(emotions=["sad"], who=["me"]), "list.csv")
    assert message == 'list.csv: no label column emotion among uri, emotions, who; rename "emotions"?'
    assert 'rename "label"?' in refusal(labelled, table(label=["sad"]))
    assert "rename" not in refusal(labelled, table(who=["me"]))
    assert "1 of 3 clips have no emotion" in refusal(labelled, table(emotion=["sad", " ", "none"]))
    assert "no labelled clip" in refusal(labelled, table(emotion=[]))
    assert "column emotion must hold text" in refusal(labelled, table(emotion=[["sad"]]))
    assert '(did you mean "train"?)' in refusal(labelled, table(emotion=["sad"], split=["trian"]))


@pytest.mark.parametrize("fold", [0, -1, 1.5, "0", "first", "1.5"])
def test_folds_must_be_integers_from_1(fold: object) -> None:
    message = refusal(labelled, table(emotion=["sad", "sad"], fold=[fold, None]))
    assert "fold must contain integers from 1" in message


def test_warns_about_misspelt_names(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert label_set(labelled(table(emotion=["hapy", "tense"]))) == ("hapy", "tense")
    assert [record.getMessage() for record in caplog.records] == [
        'the table: label "hapy" is unknown and used as given (did you mean "happy"?)'
    ]


def test_label_set_order() -> None:
    given = clips(*({"emotion": name} for name in ("zany", "sad", "angry", "brisk", "sad")))
    assert label_set(given) == ("angry", "sad", "brisk", "zany")


def test_with_labels_selects_clips_by_label() -> None:
    given = clips(
        {"emotion": "sad"},
        {"emotion": "happy"},
        {"emotion": "mine"},
    )
    assert with_labels(given, ["Joy", "mine"])["uri"].to_pylist() == ["1.wav", "2.wav"]
    assert refusal(with_labels, given, ["min"]) == 'no clip is labelled "min" (did you mean "mine"?)'


def test_check_classes_requires_two_labels() -> None:
    check_classes(clips({"emotion": "sad"}, {"emotion": "mine"}))
    assert 'x.csv: every clip is labelled "sad"' in refusal(check_classes, clips({"emotion": "sad"}), "x.csv")
    assert "no labelled clip" in refusal(check_classes, clips())


def test_speaker_in_two_splits_is_an_error() -> None:
    rows = [
        {"corpus": "a", "speaker": "1", "split": "train"},
        {"corpus": "b", "speaker": "1", "split": "test"},  # another corpus' speaker 1
        {"corpus": "a", "speaker": None, "split": "train"},
        {"corpus": "a", "speaker": None, "split": "test"},
        {"corpus": "a", "speaker": "2", "split": None},
        {"corpus": "a", "speaker": "2", "split": "dev"},
    ]
    check_splits(clips(*rows))
    bad = clips(*rows, {"corpus": "a", "speaker": "2", "split": "train"})
    assert shared_speakers(bad) == {("a", "2"): ("train", "dev")}
    assert refusal(check_splits, bad) == "speaker 2 of a is in both train and dev"
    check_splits(bad, may_share=("a",))


def test_clip_in_two_splits_is_an_error() -> None:
    once = {"uri": "x.wav", "start_s": 1.0, "split": "train"}
    check_splits(clips(once, once, once | {"start_s": 2.0, "split": "test"}))
    message = refusal(check_splits, clips(once, once | {"split": "dev"}), may_share=("a",))
    assert message == "clip x.wav is in both train and dev"
