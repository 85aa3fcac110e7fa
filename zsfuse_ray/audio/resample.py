"""Resampling on the audio's device."""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.transforms import Resample

from zsfuse_ray.audio.rates import resampled_length

_BLOCK = 1 << 20  # samples resampled at once
_ROUND = (
    1 << 13
)  # short waveforms are padded to a multiple of this: each new convolution shape costs planning


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Return a 1-D int16 or float waveform at another rate (Hz), as float32 in [-1, 1], on its own device.

    The length is `resampled_length`. Rates with almost no common divisor (44 099 → 48 000) would
    need gigabytes of filters, so their ratio is rounded, by at most 1 in 2000.
    """
    if from_rate == to_rate:
        return _to_float(waveform)
    ratio = Fraction(from_rate, to_rate).limit_denominator(1000)
    resampler = _resampler(ratio.numerator, ratio.denominator, waveform.device)
    # In blocks, since the convolution needs twenty times the memory of its input. Each but the last gives a
    # whole number of samples; it is filtered together with the filter's reach on both sides.
    step = max(1, _BLOCK // ratio.numerator) * ratio.numerator
    reach = math.ceil(resampler.width / ratio.numerator) * ratio.numerator
    length = resampled_length(len(waveform), from_rate, to_rate)
    if len(waveform) < _BLOCK:
        waveform = pad(waveform, (0, -len(waveform) % _ROUND))
    blocks = []
    for start in range(0, max(1, len(waveform)), step):
        first = max(0, start - reach)
        block = resampler(_to_float(waveform[first : start + step + reach]))
        skip, size = ((n // ratio.numerator) * ratio.denominator for n in (start - first, step))
        blocks.append(block[skip : skip + size])
    return torch.cat(blocks)[:length]


def _to_float(samples: Tensor) -> Tensor:
    return samples.float() / 32768 if samples.dtype == torch.int16 else samples.float()


@lru_cache(maxsize=128)
def _resampler(from_rate: int, to_rate: int, device: torch.device) -> Resample:
    return Resample(from_rate, to_rate).to(device)
