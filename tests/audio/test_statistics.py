import numpy as np
import pytest

from tests.audio.sounds import chirp
from zsfuse_ray.audio.statistics import BINS, RATE, SIZE, log_mel_statistics

CLIP = chirp(2.0, RATE)


def parts(clip: np.ndarray, rate: int = RATE) -> np.ndarray:
    return log_mel_statistics(clip, rate).reshape(8, BINS)


def test_gain_has_no_effect():
    np.testing.assert_allclose(parts(CLIP // 4 * 2), parts(CLIP // 4), atol=0.02)


def test_stationary_clip_has_zero_change():
    rng = np.random.default_rng(0)
    second = rng.normal(0, 3000, RATE // 100)  # repeats every hop, so that all frames are equal
    mean, std, low, middle, high, *changes = parts(np.tile(second, 100).astype(np.int16))
    for still in (std, *changes):
        np.testing.assert_allclose(still, 0, atol=1e-4)
    for percentile in (low, middle, high):
        np.testing.assert_allclose(percentile, mean, atol=1e-4)


def test_fast_and_slow_modulation_differ():
    time = np.arange(2 * RATE) / RATE
    noise = np.random.default_rng(0).normal(0, 3000, len(time))
    slow, fast = (
        parts((noise * (1.1 + np.sin(2 * np.pi * f * time))).astype(np.int16)).mean(axis=1) for f in (2, 20)
    )
    assert slow[7] > 2 * fast[7]  # between 0.1 s blocks
    assert fast[5] > 1.2 * slow[5]  # between frames


def test_statistics_are_similar_at_other_rates():
    low = slice(0, BINS // 2)
    np.testing.assert_allclose(parts(chirp(2.0, 48_000), 48_000)[0, low], parts(CLIP)[0, low], atol=1.0)


@pytest.mark.parametrize("samples", [1, 100, 400, 1000])
def test_short_clips_have_finite_statistics(samples):
    found = log_mel_statistics(CLIP[:samples], RATE)
    assert found.shape == (SIZE,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_silence_has_finite_statistics():
    assert np.isfinite(log_mel_statistics(np.zeros(RATE, np.int16), RATE)).all()
