from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import (
    SYNONYMS,
    canonical,
    check_coverage,
    column,
    dropped_warning,
    label_set,
    label_warnings,
    map_labels,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Anger", "angry"),
        ("ANG", "angry"),
        (" hap ", "happy"),
        ("Happiness", "happy"),
        ("fear", "fearful"),
        ("N", "neutral"),
        ("U", "surprised"),
        ("boredom", "bored"),
        ("exc", "excited"),
        ("excited", "excited"),
        ("Pleasant Surprise", "surprised"),
        (" Other ", "other"),
        ("wütend", "wütend"),
    ],
)
def test_canonical(name: str, expected: str):
    assert canonical(name) == expected


def test_synonyms_do_not_overlap():
    for one, other in combinations(SYNONYMS, 2):
        assert not set(SYNONYMS[one]) & set(SYNONYMS[other])
    for name, words in SYNONYMS.items():
        assert words[0] == name
        assert len(set(words)) == len(words) >= 3
        assert {canonical(word) for word in words} == {name}


def test_label_set_keeps_wording_and_order():
    assert label_set([" Sadness", "happy ", "Wütend", "高兴"]) == ("sadness", "happy", "wütend", "高兴")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ["at least two", "none"]),
        (["happy"], ["at least two", "happy"]),
        (["happy", " "], ["empty"]),
        (["happy", "x" * 61], ["60 printable"]),
        (["happy", "a\nb"], ["60 printable"]),
        (["happy", "HAPPY "], ['"happy" and "happy"', "same emotion"]),
        (["x", "x"], ['"x" and "x"']),
        (["sad", "joy", "Happiness"], ['"joy" and "happiness"', "same emotion"]),
        (["very happy", "very_happy"], ['"very happy" and "very_happy"', "column"]),
    ],
)
def test_invalid_label_sets_are_errors(names: list[str], words: list[str]):
    with pytest.raises(InputError) as error:
        label_set(names)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_column():
    assert column("Very happy!") == "very_happy_"
    assert column("wütend") == "wütend"


@given(st.text(max_size=20))
def test_column_is_safe_and_idempotent(label: str):
    assert all(char.isalnum() or char == "_" for char in column(label).replace(" ", "?"))
    assert column(column(label)) == column(label)


def test_map_labels():
    mapping = map_labels(["neu", "hap", "ang", "sad", "Happiness", "Other"], ["anger", "neutral", "joy"])
    expected = np.zeros((6, 3), dtype=bool)
    expected[[0, 1, 2, 4], [1, 2, 0, 2]] = True
    assert np.array_equal(mapping, expected)
    assert mapping.dtype == bool


RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
MELD = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


@given(st.permutations(RAVDESS), st.permutations(MELD))
def test_map_labels_with_permuted_labels(source: list[str], target: list[str]):
    mapping = map_labels(source, target)
    assert mapping.sum(axis=1).max() == 1
    for s, c in zip(*np.nonzero(mapping), strict=True):
        assert canonical(source[s]) == canonical(target[c])
    assert mapping.sum() == 7  # all but calm, some as synonyms
    assert not mapping[source.index("calm")].any()


@pytest.mark.parametrize(
    ("label", "specialist", "alm", "warning"),
    [
        ("happyy", None, True, 'did you mean "happy"?'),
        ("suprised", ["happy"], True, 'did you mean "surprised"?'),
        ("surprise", ["happy"], True, None),  # a known word
        ("happyy", ["happyy"], True, None),  # unusual, but the specialist's own
        ("sarcastic", ["happy", "sad"], True, None),  # an unknown word is valid with an ALM
        ("zorgon", None, True, "is not in the vocabulary of any model"),
        ("zorgon", ["zorgon"], True, None),
        ("calm", ["happy", "sad"], False, "its score is always 0"),
        ("happy", ["Happiness"], False, None),
    ],
)
def test_label_warnings(label: str, specialist: list[str] | None, alm: bool, warning: str | None):
    lines = label_warnings(["bored", label], [*specialist, "bored"] if specialist else None, alm, ["zorgon"])
    assert len(lines) == (warning is not None)
    assert warning is None or (warning in lines[0] and f'"{label}"' in lines[0])


@pytest.mark.parametrize(
    ("own", "labels", "with_alm", "found"),
    [
        (["sad"], ["sad", "blue", "green"], False, "covers only sad of the labels sad, blue, green"),
        (["sad", "sadness", "x"], ["sad", "blue"], False, "covers only sad"),  # both are one label
        (["x", "y"], ["sad", "blue"], False, "covers none of the labels sad, blue; its own are x, y"),
        (["x", "y"], ["sad", "blue"], True, "covers none"),
        (["sad"], ["sadness", "blue"], True, None),
        (["sad", "joy"], ["sad", "happy", "blue"], False, None),
        (["sad", "joy"], ["sad", "happy"], True, None),
    ],
)
def test_a_specialist_needs_two_labels_or_an_alm(own, labels, with_alm: bool, found: str | None):
    if found is None:
        line = check_coverage("s", own, labels, with_alm)
        assert (line is None) == (len(own) > 1)
        assert line is None or "covers only sadness" in line
        return
    with pytest.raises(InputError, match=found) as error:
        check_coverage("s", own, labels, with_alm)
    assert "--specialist s" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("share", "labels", "is_warning"),
    [
        (0.4, ["sad", "happy"], False),  # a choice among its labels
        (0.6, ["sad", "happy"], True),
        (0.4, ["sad", "blue"], True),
        (0.001, ["sad", "blue"], False),
        (0.0, ["sad", "happy", "calm", "bored"], False),
    ],
)
def test_a_dropped_share_is_a_warning(share: float, labels: list[str], is_warning: bool):
    line = dropped_warning(share, ["sad", "joy", "calm", "bored"], labels)
    assert (line is not None) == is_warning
    if line:
        assert f"{share:.1%}" in line
        assert "calm, bored)" in line
