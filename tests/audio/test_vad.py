"""Speech probabilities are compared with those of the silero-vad package's own loop."""

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from silero_vad import load_silero_vad
from torch import Tensor

from zsfuse_ray.audio.decode import decode
from zsfuse_ray.audio.demo import PROSODIES, speech_like
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.audio.segment import (
    FRAME,
    GRID_S,
    LANE_FRAMES,
    RATE,
    WARMUP_FRAMES,
    Segmentation,
    segments_from_probabilities,
)
from zsfuse_ray.audio.vad import find_segments, speech_probabilities

LONG_S = 120.0
GRID = LANE_FRAMES * FRAME  # samples


@lru_cache(maxsize=1)
def silero():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_silero_vad()


@torch.inference_mode()
def stock_probabilities(waveform: Tensor) -> NDArray[np.float32]:
    """Run the package's network frame by frame, as its get_speech_timestamps does."""
    model = silero()
    model.reset_states()
    frames = waveform.split(FRAME)
    padded = [torch.nn.functional.pad(frame, (0, FRAME - len(frame))) for frame in frames]
    return np.array([model(frame, RATE).item() for frame in padded], np.float32)


@lru_cache
def demo(seconds: float, seed: int = 1) -> Tensor:
    return torch.from_numpy(speech_like(seconds, PROSODIES[seed], seed)).float()


def recording(shared: Path, name: str, seconds: float) -> Tensor:
    pcm = decode(str(shared / "longform" / name), 0.0, seconds)
    return resample(torch.from_numpy(pcm.samples), pcm.sample_rate, RATE)


def test_demo_probabilities_equal_the_stock_loop() -> None:
    waveform = demo(50.0)
    stock = stock_probabilities(waveform)
    np.testing.assert_allclose(speech_probabilities(waveform), stock, rtol=0, atol=1e-4)
    assert stock.min() < 0.1 < 0.9 < stock.max()  # the audio has speech and silence


@pytest.mark.parametrize("name", ["mixed/silero_aepyx_8k.wav", "podcast/ikowave-25.mp3"])
def test_real_probabilities_equal_the_stock_loop(shared: Path, name: str) -> None:
    """Up to rounding in the first lane, which runs from the start; with equal segments after it."""
    waveform = recording(shared, name, LONG_S)
    ours, stock = speech_probabilities(waveform), stock_probabilities(waveform)
    first_lane = WARMUP_FRAMES + LANE_FRAMES
    np.testing.assert_allclose(ours[:first_lane], stock[:first_lane], rtol=0, atol=1e-4)
    how = Segmentation()
    duration_s = len(waveform) / RATE
    found = segments_from_probabilities(ours, duration_s, how)
    expected = segments_from_probabilities(stock, duration_s, how)
    assert len(found) > 5
    assert [(s.start_s, s.end_s) for s in found] == [(s.start_s, s.end_s) for s in expected]


@pytest.mark.parametrize("samples", [0, 1, FRAME - 1, FRAME, FRAME + 1, 5 * FRAME + 100])
def test_short_audio_has_one_probability_per_frame(samples: int) -> None:
    waveform = demo(2.0)[8000 : 8000 + samples]
    probabilities = speech_probabilities(waveform)
    assert probabilities.shape == (-(-samples // FRAME),)
    assert probabilities.dtype == np.float32
    if samples:
        np.testing.assert_allclose(probabilities, stock_probabilities(waveform), rtol=0, atol=1e-4)


@pytest.mark.parametrize("lanes", [0, 1, 2])
@pytest.mark.parametrize("more", [-1, 0, 7])
def test_lanes_join_without_a_gap(lanes: int, more: int) -> None:
    """Frames at the boundaries of lanes have the same probabilities as in a longer waveform."""
    frames = WARMUP_FRAMES + lanes * LANE_FRAMES + more
    whole = speech_probabilities(demo(90.0))
    part = speech_probabilities(demo(90.0)[: frames * FRAME])
    assert len(part) == frames
    np.testing.assert_allclose(part, whole[:frames], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lanes_before", [2, 3, 5])
def test_probabilities_do_not_depend_on_where_the_audio_starts(lanes_before: int) -> None:
    """From 40 s after its start, audio from any grid position has the whole recording's probabilities."""
    waveform = demo(200.0, seed=3)
    whole = speech_probabilities(waveform)
    at = 3 * GRID
    begin = max(0, at - lanes_before * GRID)
    part = speech_probabilities(waveform[begin:])
    settled = (at - begin) // FRAME
    assert settled >= 2 * LANE_FRAMES
    np.testing.assert_allclose(part[settled:], whole[at // FRAME :], rtol=0, atol=2e-5)
    assert Segmentation().left_context_s == 2 * GRID_S


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_segments_of_pcm_at_any_rate(rate: int) -> None:
    samples = (speech_like(20.0, PROSODIES[1], 1, rate) * 32767).astype(np.int16)
    found = find_segments(samples, rate, Segmentation())
    spoken = sum(segment.end_s - segment.start_s for segment in found)
    assert 8 < spoken < 20
    assert all(0 <= segment.start_s < segment.end_s <= 20 for segment in found)
    assert all(segment.speech_prob > 0.4 for segment in found)


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("vad", ["silero", "none"])
def test_empty_audio_has_no_speech(rate: int, vad) -> None:
    assert find_segments(np.zeros(0, np.int16), rate, Segmentation(vad)) == []


@pytest.mark.parametrize("level", [0, 1000])
def test_silence_and_constant_have_no_speech(level: int) -> None:
    assert find_segments(np.full(80_000, level, np.int16), 16_000, Segmentation()) == []


def test_without_vad_windows_are_fixed() -> None:
    sound = np.random.default_rng(0).normal(0, 1000, 25 * 8000).astype(np.int16)
    found = find_segments(sound, 8000, Segmentation(vad="none"))
    assert [(s.start_s, s.end_s, s.speech_prob) for s in found] == [(0, 10, 1), (10, 20, 1), (20, 25, 1)]
