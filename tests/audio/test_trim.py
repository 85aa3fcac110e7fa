import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsfuse_ray.audio.trim import trimmed

RATE = 16_000
MARGIN = 1600
FRAME = 320


def tone(seconds: float, level: float = 8000) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 220 * t)).astype(np.int16)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.int16)


@given(before=st.floats(0, 2), speech=st.floats(0.2, 3), after=st.floats(0, 2))
def test_silent_edges_are_trimmed_to_a_margin(before: float, speech: float, after: float) -> None:
    clip = np.concatenate([silence(before), tone(speech), silence(after)])
    start, end = trimmed(clip, RATE)
    first, last = int(before * RATE), int(before * RATE) + int(speech * RATE)
    assert start <= first <= start + MARGIN + FRAME
    assert end - MARGIN - FRAME <= last <= end + FRAME


def test_inner_pause_is_kept() -> None:
    clip = np.concatenate([tone(0.5), silence(3), tone(0.5)])
    assert trimmed(clip, RATE) == (0, len(clip))


def test_noise_40_db_below_the_speech_is_silence_and_20_db_below_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=RATE)
    for level, cut in ((20, True), (800, False)):
        clip = np.concatenate([noise * level, tone(1, 8000), noise * level]).astype(np.int16)
        assert (trimmed(clip, RATE)[0] > RATE // 2) == cut


def test_offset_and_click_do_not_prevent_trimming() -> None:
    clip = np.concatenate([silence(1), tone(1), silence(1)])
    assert trimmed(clip + np.int16(3000), RATE) == trimmed(clip, RATE)
    clip[40_000] = 32_000  # a click in the trailing silence is kept, but does not change the loud level
    assert trimmed(clip, RATE)[0] == trimmed(np.concatenate([silence(1), tone(1), silence(1)]), RATE)[0]


@pytest.mark.parametrize("clip", [silence(1), np.zeros(0, np.int16), np.ones(10, np.int16)])
def test_silent_audio_is_not_trimmed(clip: np.ndarray) -> None:
    assert trimmed(clip, RATE) == (0, len(clip))


def test_trims_a_real_clip(shared) -> None:
    from zsfuse_ray.audio.decode import decode  # PyAV

    clip = decode(str(shared / "corpora/ravdess/03-01-01-01-01-01-01.opus"))
    start, end = trimmed(clip.samples, clip.sample_rate)
    assert 0.5 < start / clip.sample_rate < 1.3
    assert 1.0 < (end - start) / clip.sample_rate < 2.5
