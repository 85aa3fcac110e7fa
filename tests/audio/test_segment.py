import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zsfuse_ray.audio.segment import (
    FRAME,
    GRID_S,
    RATE,
    WARMUP_FRAMES,
    Segment,
    Segmentation,
    fixed_windows,
    segments_from_probabilities,
)

FRAME_S = FRAME / RATE
UNCUT_S = 1e6

lengths = st.sampled_from([(0.1, 1.0), (0.5, 10.0), (1.0, 5.0), (2.5, 5.0), (5.0, 10.0), (3.0, 60.0)])


@st.composite
def probabilities(draw: st.DrawFn) -> tuple[NDArray[np.float32], float]:
    """Frame probabilities with long and short runs of speech and silence, and their duration in seconds."""
    runs = draw(
        st.lists(
            st.tuples(st.integers(1, 900), st.sampled_from([0.02, 0.3, 0.55, 0.98])), min_size=1, max_size=20
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = np.concatenate([np.full(n, level) for n, level in runs])
    wobble = draw(st.sampled_from([0.0, 0.1, 0.5]))
    values = np.clip(levels + wobble * rng.standard_normal(len(levels)), 0, 1).astype(np.float32)
    missing = draw(st.integers(0, FRAME - 1))  # the last frame may be padded
    return values, (len(values) * FRAME - missing) / RATE


def how_with(shortest: float, longest: float) -> Segmentation:
    return Segmentation(min_segment_s=shortest, max_segment_s=longest)


def spans(segments: list[Segment]) -> list[tuple[float, float]]:
    return [(segment.start_s, segment.end_s) for segment in segments]


@settings(deadline=None, max_examples=80)
@given(probabilities(), lengths)
def test_segments_are_ordered_and_within_the_length_limits(made, limits) -> None:
    (values, duration_s), (shortest, longest) = made, limits
    found = segments_from_probabilities(values, duration_s, how_with(shortest, longest))
    for segment in found:
        assert 0 <= segment.start_s < segment.end_s <= duration_s + 1e-9
        assert shortest - FRAME_S <= segment.end_s - segment.start_s <= longest + FRAME_S
        assert 0 <= segment.speech_prob <= 1
    assert all(earlier.end_s <= later.start_s + 1e-9 for earlier, later in pairwise(found))


@settings(deadline=None, max_examples=80)
@given(probabilities(), lengths)
def test_long_region_is_cut_at_the_lowest_allowed_frame(made, limits) -> None:
    (values, duration_s), (shortest, longest) = made, limits
    regions = segments_from_probabilities(values, duration_s, how_with(shortest, UNCUT_S))
    found = segments_from_probabilities(values, duration_s, how_with(shortest, longest))
    assert sum(e - s for s, e in spans(found)) == pytest.approx(sum(e - s for s, e in spans(regions)))
    for region in regions:
        inside = [s for s in spans(found) if region.start_s - 1e-9 <= s[0] and s[1] <= region.end_s + 1e-9]
        assert inside[0][0] == region.start_s
        assert inside[-1][1] == region.end_s
        assert all(earlier[1] == later[0] for earlier, later in pairwise(inside))
        for start, end in inside[:-1]:
            strength = strengths(values, start, region.end_s, shortest, longest)
            if strength:
                assert strength[round(end / FRAME_S)] == pytest.approx(min(strength.values()), abs=1e-6)
            else:  # the range of possible cuts is narrower than a frame
                assert end == pytest.approx(region.end_s - shortest, abs=FRAME_S)
        assert region.end_s - inside[-1][0] <= longest  # the last piece needed no further cut


def strengths(values: NDArray, start: float, end: float, shortest: float, longest: float) -> dict[int, float]:
    """Return {frame: mean probability of the five frames around it} for each possible end of a piece."""
    strength = {}
    for frame in range(len(values) + 1):
        if start + longest / 2 - 1e-9 <= frame * FRAME_S <= min(start + longest, end - shortest) + 1e-9:
            around = [values[min(max(k, 0), len(values) - 1)] for k in range(frame - 2, frame + 3)]
            strength[frame] = math.fsum(around) / 5
    return strength


def test_uniform_speech_is_cut_to_the_maximum_length() -> None:
    found = segments_from_probabilities(np.ones(1000, np.float32), 32.0, how_with(0.5, 10.0))
    assert max(s.end_s - s.start_s for s in found) <= 10
    assert (found[0].start_s, found[-1].end_s) == (0, 32)


def test_cut_is_at_the_lowest_probability() -> None:
    values = np.ones(1000, np.float32)
    values[250:256] = 0.6  # a minimum at 8.0 to 8.2 s, above the threshold
    first = segments_from_probabilities(values, 32.0, how_with(0.5, 10.0))[0]
    assert 8.0 < first.end_s < 8.2


def test_short_speech_is_extended_into_the_surrounding_silence() -> None:
    values = np.zeros(400, np.float32)
    values[100:115] = 1.0  # 3.2 to 3.68 s
    (short,) = segments_from_probabilities(values, 12.8, how_with(2.0, 10.0))
    assert short.end_s - short.start_s == pytest.approx(2.0)
    assert (short.start_s + short.end_s) / 2 == pytest.approx(3.44, abs=2 * FRAME_S)


def test_short_speech_at_the_edge_is_extended_to_one_side() -> None:
    values = np.zeros(400, np.float32)
    values[:15] = 1.0
    (short,) = segments_from_probabilities(values, 12.8, how_with(2.0, 10.0))
    assert spans([short]) == [(0.0, pytest.approx(2.0))]


def test_short_speech_without_room_is_dropped() -> None:
    assert segments_from_probabilities(np.ones(15, np.float32), 0.48, how_with(0.5, 10.0)) == []


def test_pause_below_300_ms_does_not_end_a_segment() -> None:
    def count(pause_frames: int) -> int:
        values = np.zeros(200, np.float32)
        values[20:100] = values[100 + pause_frames : 180] = 1.0
        return len(segments_from_probabilities(values, 6.4, how_with(0.5, 10.0)))

    assert (count(8), count(14)) == (1, 2)  # 256 ms, 448 ms


def test_threshold() -> None:
    values = np.full(200, 0.4, np.float32)
    assert segments_from_probabilities(values, 6.4, Segmentation(threshold=0.5)) == []
    assert len(segments_from_probabilities(values, 6.4, Segmentation(threshold=0.3))) == 1


def test_speech_prob_is_the_mean_over_frames() -> None:
    values = np.zeros(200, np.float32)
    values[50:100], values[100:150] = 0.9, 0.7
    (segment,) = segments_from_probabilities(values, 6.4, how_with(0.5, 10.0))
    first, last = int(segment.start_s / FRAME_S), math.ceil(segment.end_s / FRAME_S)
    assert segment.speech_prob == pytest.approx(float(np.mean(values[first:last])))
    assert 0.7 < segment.speech_prob < 0.9


@settings(deadline=None)
@given(
    st.floats(0, 400),
    st.lists(st.integers(0, 20), max_size=4, unique=True),
    st.sampled_from([0.7, 1.0, 3.0, 7.0, 10.0]),
)
def test_windows_are_on_the_grid_of_the_recording(
    duration_s: float, starts: list[int], longest: float
) -> None:
    """Audio from any position of a recording has the same windows as the whole recording has there."""
    how = Segmentation("none", 0.2, longest)
    whole = spans(fixed_windows(duration_s, how))
    if duration_s >= 0.2:
        assert sum(e - s for s, e in whole) == pytest.approx(duration_s, abs=0.2)
        assert all(e - s <= longest + 1e-9 for s, e in whole)
    for origin_s in (GRID_S * k for k in starts if GRID_S * k < duration_s):
        part = [
            (origin_s + s, origin_s + e)
            for s, e in spans(fixed_windows(duration_s - origin_s, how, origin_s))
        ]
        expected = [span for span in whole if span[0] >= origin_s - 1e-6]
        np.testing.assert_allclose(np.reshape(part, (-1, 2)), np.reshape(expected, (-1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0.0, []),
        (0.3, [(0, 0.3)]),  # shorter than the minimum, but the whole recording
        (10.0, [(0, 10)]),
        (10.3, [(0, 10)]),
        (10.6, [(0, 10), (10, 10.6)]),
    ],
)
def test_windows_of_short_recordings(duration_s: float, expected: list) -> None:
    assert spans(fixed_windows(duration_s, Segmentation("none"))) == expected


def test_context_lengths() -> None:
    """Left context: whole grid steps that cover the warm-up; right context: covers the longest segment."""
    for longest in (1.0, 10.0, 30.0, 60.0):
        how = how_with(0.5, longest)
        assert how.left_context_s % GRID_S == 0
        assert how.left_context_s >= max(WARMUP_FRAMES * FRAME_S, 2 * longest)
        assert how.right_context_s >= longest + 0.5
    assert (Segmentation("none").left_context_s, Segmentation("none").right_context_s) == (0.0, 10.0)
