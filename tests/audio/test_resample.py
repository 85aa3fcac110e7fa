from fractions import Fraction

import numpy as np
import pytest
import torch

from zsfuse_ray.audio import resample as module
from zsfuse_ray.audio.resample import _resampler, resample


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(48_000, 16_000), (44_100, 16_000), (8_000, 48_000), (44_099, 48_000)]
)
@pytest.mark.parametrize("length", [1, 7, 4096, 50_000])
def test_resampling_in_blocks_equals_resampling_at_once(from_rate, to_rate, length, monkeypatch) -> None:
    waveform = torch.from_numpy(np.random.default_rng(length).integers(-9000, 9000, length, np.int16))
    whole = resample(waveform, from_rate, to_rate)
    monkeypatch.setattr(module, "_BLOCK", 3000)
    blocks = resample(waveform, from_rate, to_rate)
    assert blocks.shape == whole.shape
    assert torch.allclose(blocks, whole, atol=1e-7)


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(44100, 48000), (8000, 16000), (48000, 16000), (44099, 16000)]
)
def test_resampled_sine_matches_the_closed_form(from_rate, to_rate):
    time = torch.arange(from_rate, dtype=torch.float64) / from_rate
    got = resample(torch.sin(2 * torch.pi * 440 * time).float(), from_rate, to_rate)
    assert abs(len(got) - to_rate) <= 1
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(len(got), dtype=torch.float64) / to_rate)
    inner = slice(200, -200)  # the filters read zeros beyond the ends
    torch.testing.assert_close(got[inner].double(), expected[inner], rtol=0, atol=2e-3)


def test_int16_is_scaled_to_one():
    got = resample(torch.tensor([-32768, 0, 16384], dtype=torch.int16), 16000, 16000)
    assert got.dtype == torch.float32
    assert got.tolist() == [-1.0, 0.0, 0.5]


def test_odd_rates_need_little_memory():
    _resampler.cache_clear()
    got = resample(torch.zeros(44_099), 44_099, 48_000)
    assert abs(len(got) - 48_000) <= 1
    ratio = Fraction(44_099, 48_000).limit_denominator(1000)
    resampler = _resampler(ratio.numerator, ratio.denominator, torch.device("cpu"))
    assert _resampler.cache_info().hits == 1  # the same object that resample used
    assert resampler.kernel.numel() < 5e6
