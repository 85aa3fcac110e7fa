import csv
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method import zeroshot
from zsfuse_ray.method.amplify import (
    Fill,
    crop_offset,
    distinct_inputs,
    effect,
    effects,
    filled,
    windows,
)

FILLS: tuple[Fill, ...] = ("repeat_pad", "circular", "none")


def reference(clip: NDArray, a: int, window: int | None, fill: Fill, start: int) -> NDArray:
    """The reference: amplify, then fill as in laion_clap and transformers, or as in msclap, then crop.

    start: of the crop, in the amplified clip.
    """
    clip = np.tile(clip, a)
    if window is None:
        return clip
    if len(clip) > window:
        return clip[start : start + window]
    if fill == "repeat_pad":
        clip = np.tile(clip, int(window / len(clip)))
    elif fill == "circular":
        clip = np.tile(clip, int(np.ceil(window / len(clip))))[:window]
    return np.pad(clip, (0, window - len(clip)))


def periodic(clip: NDArray, offset: int, filled: int, window: int | None) -> NDArray:
    """Return the input that (offset, filled) identifies."""
    given = clip[(offset + np.arange(filled)) % len(clip)]
    return given if window is None else np.pad(given, (0, window - filled))


@st.composite
def cases(draw: st.DrawFn):
    window = draw(st.none() | st.integers(1, 40))
    lengths = draw(st.lists(st.integers(1, window or 40), min_size=1, max_size=4))
    repeats = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    seeds = draw(st.none() | st.lists(st.integers(0, 2**63), min_size=len(lengths), max_size=len(lengths)))
    clips = [np.random.default_rng(i).normal(size=length) for i, length in enumerate(lengths)]
    return clips, repeats, window, draw(st.sampled_from(FILLS)), seeds


@settings(max_examples=400)
@given(cases())
def test_inputs_equal_the_reference_and_are_distinct(case):
    clips, repeats, window, fill, seeds = case
    lengths = [len(clip) for clip in clips]
    distinct = distinct_inputs(lengths, repeats, window, fill, seeds)
    assert sorted(set(distinct.index.flat)) == list(range(len(distinct.inputs)))
    for i, clip in enumerate(clips):
        arrays = []
        for a, position in zip(repeats, distinct.index[i], strict=True):
            which, offset, given = distinct.inputs[position]
            arrays.append(reference(clip, a, window, fill, start=offset))
            assert which == i
            assert 0 <= offset < len(clip)
            assert np.array_equal(arrays[-1], periodic(clip, offset, given, window))
        # The random samples do not repeat, so inputs are equal only through repetition.
        for j, k in product(range(len(repeats)), repeat=2):
            same = distinct.index[i, j] == distinct.index[i, k]
            assert same == np.array_equal(arrays[j], arrays[k])


@settings(max_examples=300)
@given(cases())
def test_effect_matches_the_reference_input(case):
    clips, repeats, window, fill, seeds = case
    for i, clip in enumerate(clips):
        seed = None if seeds is None else seeds[i]
        once = reference(clip, 1, window, fill, 0)
        for a in repeats:
            given = reference(clip, a, window, fill, crop_offset(len(clip), a, window, fill, seed))
            sound, before = np.count_nonzero(given), np.count_nonzero(once)
            match effect(len(clip), a, window, fill, seed):
                case "same":
                    assert np.array_equal(given, once)
                case "fewer":
                    assert sound < before
                case "more":
                    assert sound > before
                    assert sound == a * len(clip)
                case "cropped":
                    assert not np.array_equal(given, once)
                    assert sound == window


@settings(max_examples=50)
@given(cases(), st.integers(0, 2**32 - 1))
def test_distinct_inputs_give_the_same_posteriors_as_all_inputs(case, seed: int):
    clips, repeats, window, fill, seeds = case
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(500, 6))

    def encode(audio: NDArray) -> NDArray:
        embedding = np.tanh(np.append(audio, len(audio)) @ weights[: len(audio) + 1])
        return embedding / np.linalg.norm(embedding)

    text = rng.normal(size=(2, 3, 6))
    text /= np.linalg.norm(text, axis=-1, keepdims=True)

    distinct = distinct_inputs([len(clip) for clip in clips], repeats, window, fill, seeds)
    once = np.array([encode(periodic(clips[i], start, given, window)) for i, start, given in distinct.inputs])
    every = np.array(
        [
            [
                encode(reference(clip, a, window, fill, crop_offset(len(clip), a, window, fill, own)))
                for a in repeats
            ]
            for clip, own in zip(clips, seeds or [None] * len(clips), strict=True)
        ]
    )
    for ensemble in ("embedding", "logit", "probability"):
        grouped = zeroshot.posterior(once[distinct.index], text, 14.3, ensemble)
        np.testing.assert_allclose(grouped, zeroshot.posterior(every, text, 14.3, ensemble), atol=1e-12)


def test_repeat_padding_never_adds_copies():
    """Closed form: identical if a divides the number of whole copies, fewer copies otherwise."""
    for length, a in product(range(1, 101), range(1, 8)):
        copies = 100 // length
        expected = "same" if copies % a == 0 else "fewer"
        if a * length <= 100:
            assert effect(length, a, 100, "repeat_pad") == expected
        assert effect(length, a, 100, "circular") == "same"


@pytest.mark.parametrize(
    ("length", "a", "window", "fill", "expected"),
    [
        (30, 2, 100, "repeat_pad", "fewer"),
        (25, 2, 100, "repeat_pad", "same"),
        (30, 4, 100, "repeat_pad", "cropped"),
        (25, 5, 100, "repeat_pad", "same"),  # the window is a whole number of copies: cropping has no effect
        (30, 2, 100, "none", "more"),
        (30, 4, 100, "none", "cropped"),
        (100, 4, 100, "none", "same"),
        (30, 4, 100, "circular", "same"),
        (30, 4, None, "none", "more"),
        (30, 1, None, "none", "same"),
    ],
)
def test_effect(length: int, a: int, window: int | None, fill: Fill, expected: str):
    assert effect(length, a, window, fill) == expected


def test_seeded_circular_crop_only_shifts():
    seen = {effect(30, 9, 100, "circular", seed) for seed in range(50)}
    assert seen == {"same", "cropped"}


def test_effects_on_ravdess(shared):
    """Known shares in % of identical, fewer and cropped inputs, LAION's 10 s window, EmoBox clips."""
    with open(shared / "corpora" / "ravdess" / "metadata.csv") as file:
        lengths = [round(float(row["duration_s"]) * 48_000) for row in csv.DictReader(file)]
    counts = effects(lengths, (2, 3, 4), 480_000, "repeat_pad")
    for a, expected in {2: (88, 11, 0), 3: (11, 0, 89), 4: (0, 0, 100)}.items():
        shares = [100 * counts[a][name] / len(lengths) for name in ("same", "fewer", "cropped")]
        assert shares == pytest.approx(expected, abs=1)
        assert sum(counts[a].values()) == len(lengths) == 1440


def test_crop_offset_is_uniform():
    starts = np.array([crop_offset(90, 2, 170, "repeat_pad", seed) for seed in range(4400)])
    counts = np.bincount(starts)
    assert len(counts) == 11  # 180 - 170 = 10 excess samples: 11 starts
    assert counts.min() > 320  # 400 expected, standard deviation 19
    assert counts.max() < 480


def test_crop_offset_depends_on_seed_and_repeats_only():
    draw = [crop_offset(1000, a, 1000, "none", seed) for seed in (1, 2) for a in (2, 3)]
    assert draw == [crop_offset(1000, a, 1000, "none", seed) for seed in (1, 2) for a in (2, 3)]
    assert len(set(draw)) == 4
    assert crop_offset(1000, 2, 1000, "none", None) == 0
    assert crop_offset(1000, 1, 1000, "none", 7) == 0
    assert crop_offset(1000, 9, None, "none", 7) == 0


@given(st.integers(1, 300), st.none() | st.integers(1, 100))
def test_windows_cover_a_clip_in_order(length: int, window: int | None):
    parts = windows(length, window)
    assert np.array_equal(np.concatenate([np.arange(n) + start for start, n in parts]), np.arange(length))
    assert all(n == window for _, n in parts[:-1])
    assert len(parts) == (1 if window is None else -(-length // window))


def test_invalid_arguments_are_errors():
    with pytest.raises(InputError, match="not 0"):
        filled(10, 0, 100, "none")
    for length in (0, 101):
        with pytest.raises(ValueError, match=f"clip of {length} samples"):
            filled(length, 1, 100, "none")
    with pytest.raises(ValueError, match="empty"):
        windows(0, None)
    with pytest.raises(ValueError, match="zip"):
        distinct_inputs([1, 2], [1], 10, "none", seeds=[1])


def test_accepts_numpy_lengths():
    plain = distinct_inputs([3, 4], [1, 2], 10, "repeat_pad", [1, 2])
    other = distinct_inputs(np.array([3, 4]), np.array([1, 2]), 10, "repeat_pad", np.array([1, 2]))  # type: ignore
    assert other.inputs == plain.inputs
    assert np.array_equal(other.index, plain.index)
