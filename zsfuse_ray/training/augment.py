"""Random augmentation of clips on the device, drawn from each clip's own seed.

A clip is augmented identically in any batch, worker or attempt.
"""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad

from zsfuse_ray.audio.resample import resample
from zsfuse_ray.config.train import TrainConfig

MOST_VOICES = 3  # in babble
STRETCH_FFT = 512
_QUIET_DB = (-90.0, -50.0)  # level range of added silence, dBFS


def background_rows(seed: int, train_rows: NDArray[np.int64], config: TrainConfig) -> list[int]:
    """Return the rows used as babble for a clip; empty for most clips."""
    rng = np.random.default_rng([seed, 1])
    if rng.random() >= config.babble:
        return []
    return [int(row) for row in rng.choice(train_rows, size=rng.integers(1, MOST_VOICES + 1))]


def augmented(
    clip: Tensor, voices: Sequence[Tensor], partner: Tensor | None, share: float, seed: int, rate: int,
    config: TrainConfig,
) -> Tensor:  # fmt: skip
    """Return a clip for training: cropped, mixed with its partner, and augmented.

    clip, voices (for babble), partner (for mixup): 1-D float32 on one device at ``rate`` Hz. The result is at
    most ``crop_s`` long, plus ``silence_s`` at either end.
    """
    rng = np.random.default_rng([seed, 0])
    noise = torch.Generator(clip.device).manual_seed(seed & (2**63 - 1))
    # whole per cents: each rate has a cached resampler
    speed = 1 + round(100 * rng.uniform(-config.speed, config.speed)) / 100
    pitch = 1 + round(100 * rng.uniform(-config.warp, config.warp)) / 100
    length = round(config.crop_s * rate)
    clip = cropped(clip, round(length * speed), rng)
    if partner is not None and share > 0:
        clip = mixed(clip, partner, share, rng)
    if pitch != 1:
        clip = shifted(clip, pitch)
    if speed != 1:
        clip = resample(clip, round(100 * speed), 100)
    clip = clip[:length]
    if config.silence_s:
        before, after = (round(rate * rng.uniform(0, config.silence_s)) for _ in range(2))
        clip = with_silence(clip, before, after, rng, noise)
    if config.tilt_db or config.reverb:
        tilt = rng.uniform(-config.tilt_db, config.tilt_db)
        decay_s = rng.uniform(0.1, 0.6) if rng.random() < config.reverb else 0.0
        clip = filtered(clip, rate, tilt, decay_s, 10 ** (rng.uniform(-15, -3) / 20), noise)
    if voices:
        clip = with_background(clip, sum_of(voices, len(clip), rng), rng.uniform(*config.snr_db))
    if rng.random() < config.noise:
        hiss = coloured(len(clip), rng.uniform(0, 1), noise, clip.device)
        clip = with_background(clip, hiss, rng.uniform(*config.snr_db))
    if config.gain_db:
        clip = clip * 10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20)
    return clip


def cropped(clip: Tensor, length: int, rng: np.random.Generator) -> Tensor:
    """Return at most ``length`` samples from a random position."""
    start = int(rng.integers(0, max(0, len(clip) - length) + 1))
    return clip[start : start + length]


def fitted(clip: Tensor, length: int, rng: np.random.Generator) -> Tensor:
    """Return exactly ``length`` samples: cropped at random, or repeated."""
    clip = clip.repeat(math.ceil(length / max(1, len(clip))))
    return cropped(clip, length, rng)


def level(clip: Tensor) -> Tensor:
    """Root mean square, above 0."""
    return clip.square().mean().sqrt().clamp(min=1e-5)


def mixed(clip: Tensor, partner: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Return (1 - share) · clip + share · partner, with the partner scaled to the clip's level.

    Mixup (Zhang et al. 2018) of waveforms; the partner is cropped or zero-padded to the clip's length.
    """
    partner = cropped(partner, len(clip), rng)
    partner = pad(partner * (level(clip) / level(partner)), (0, len(clip) - len(partner)))
    return (1 - share) * clip + share * partner


def shifted(clip: Tensor, factor: float) -> Tensor:
    """Return the clip with pitch and formants scaled by ``factor``, at the same tempo and length.

    Resampled, then stretched back by a phase vocoder: magnitudes are interpolated in time, and each bin's
    phase advances by its frame-to-frame difference. Products of unit phasors avoid computing angles, the
    most expensive step.
    """
    fast = resample(clip, round(100 * factor), 100)
    if len(fast) <= STRETCH_FFT:
        return clip
    hop = STRETCH_FFT // 4
    window = torch.hann_window(STRETCH_FFT, device=clip.device)
    spectrum = torch.stft(fast, STRETCH_FFT, hop, window=window, return_complex=True)
    magnitude = spectrum.abs()
    phasor = spectrum / magnitude.clamp(min=1e-9)
    turn = phasor[:, 1:] * phasor[:, :-1].conj()
    times = torch.arange(0, spectrum.shape[1], 1 / factor, device=clip.device)
    at = times.long().clamp(max=spectrum.shape[1] - 2)
    turned = torch.cat([phasor[:, :1], turn[:, at[:-1]]], dim=1).cumprod(dim=1)
    slow = torch.lerp(magnitude[:, at], magnitude[:, at + 1], (times - at).clamp(max=1)) * turned
    out = torch.istft(slow, STRETCH_FFT, hop, window=window, length=len(clip))
    return out * (level(clip) / level(out))


def with_silence(
    clip: Tensor, before: int, after: int, rng: np.random.Generator, noise: torch.Generator
) -> Tensor:
    """Return the clip with near silence, or digital silence, added at its ends."""
    loudness = 10 ** (rng.uniform(*_QUIET_DB) / 20) * (rng.random() < 0.7)
    quiet = loudness * torch.randn(before + after, generator=noise, device=clip.device)
    return torch.cat([quiet[:before], clip, quiet[before:]])


def filtered(
    clip: Tensor, rate: int, tilt_db: float, decay_s: float, wet: float, noise: torch.Generator
) -> Tensor:
    """Return the clip with its spectrum tilted by tilt_db per octave and reverberation of RT60 decay_s.

    The impulse response is decaying noise of level ``wet`` relative to the direct sound (Ko et al. 2017 use
    real and simulated rooms). Length and level are unchanged.
    """
    tail = round(decay_s * rate)
    size = _fast_length(len(clip) + tail + rate // 100)  # 10 ms padding against circular wrap-around
    spectrum = torch.fft.rfft(clip, n=size)
    if tilt_db:
        kilohertz = torch.linspace(0, rate / 2000, size // 2 + 1, device=clip.device).clamp(min=0.06)
        spectrum = spectrum * kilohertz ** (tilt_db / 20 * math.log2(10))  # 2^(x·log2 10) = 10^x
    if tail:
        times = torch.arange(tail, device=clip.device) / tail
        echo = torch.randn(tail, generator=noise, device=clip.device) * 10 ** (-3 * times)
        echo = wet * echo / echo.square().sum().sqrt()
        echo[0] += 1.0
        spectrum = spectrum * torch.fft.rfft(echo, n=size)
    out = torch.fft.irfft(spectrum, n=size)[: len(clip)]
    return out * (level(clip) / level(out))


def _fast_length(samples: int) -> int:
    """Return the next larger length that is fast for an FFT."""
    return cast(int, next_fast_len(samples, real=True))


def coloured(length: int, exponent: float, noise: torch.Generator, device: torch.device) -> Tensor:
    """Return noise of power spectrum 1 / f^exponent: 0 is white, 1 is pink."""
    size = _fast_length(max(2, length))
    spectrum = torch.fft.rfft(torch.randn(size, generator=noise, device=device))
    spectrum[1:] *= torch.arange(1, len(spectrum), device=device) ** (-exponent / 2)
    spectrum[0] = 0
    return torch.fft.irfft(spectrum, n=size)[:length]


def sum_of(voices: Sequence[Tensor], length: int, rng: np.random.Generator) -> Tensor:
    """Return the sum of the voices, each at the same level."""
    return torch.stack([fitted(v / level(v), length, rng) for v in voices]).sum(dim=0)


def with_background(clip: Tensor, background: Tensor, snr_db: float) -> Tensor:
    """Return their sum, with the background snr_db below the clip."""
    return clip + background * (level(clip) / level(background) * 10 ** (-snr_db / 20))


def masks(
    frames: int, bands: int, frames_per_s: float, seed: int, config: TrainConfig
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return [start, end) of the frames and of the bands masked by SpecAugment (Park et al. 2019)."""
    rng = np.random.default_rng([seed, 2])

    def spans(number: int, longest: int, size: int) -> list[tuple[int, int]]:
        spans = []
        for _ in range(number):
            width = int(rng.integers(0, min(longest, size) + 1))
            start = int(rng.integers(0, size - width + 1))
            spans.append((start, start + width))
        return spans

    longest_mask = max(1, round(config.time_mask_s * frames_per_s))
    return spans(config.time_masks, longest_mask, frames), spans(
        config.frequency_masks, max(1, round(config.frequency_mask * bands)), bands
    )
