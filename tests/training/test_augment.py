"""Augmentation: deterministic by seed, at the requested level, and according to its definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import phase_vocoder

from tests.training.training_support import RATE
from zsfuse_ray.config.options import build
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.training import augment
from zsfuse_ray.training.augment import augmented, background_rows, level, masks

ALL = {
    "speed": 0.1, "warp": 0.1, "gain_db": 6, "tilt_db": 3, "noise": 1, "babble": 1, "reverb": 1,
    "silence_s": 0.2,
}  # fmt: skip


def config_of(**options: object) -> TrainConfig:
    return build(
        TrainConfig, {"init": "a", "output": "b", "train": "c", "crop_s": 1.0, "batch_s": 9} | options
    )


def tone(hertz: float, seconds: float = 1.0, amplitude: float = 0.3) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pitch(clip: torch.Tensor) -> float:
    """The dominant frequency in Hz."""
    inner = clip[2000:-2000]
    spectrum = torch.fft.rfft(inner * torch.hann_window(len(inner)), n=1 << 18).abs()
    return float(spectrum.argmax()) * RATE / (1 << 18)


def augmented_clip(clip: torch.Tensor, seed: int, **options: object) -> torch.Tensor:
    return augmented(clip, [noise(0.5, 1)], noise(0.7, 2), 0.3, seed, RATE, config_of(**options))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**62), st.floats(0.02, 3))
def test_seed_determines_the_result(seed: int, seconds: float) -> None:
    clip = noise(seconds)
    before = clip.clone()
    torch.manual_seed(1)
    first = augmented_clip(clip, seed, **ALL)
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002 (global state must not matter)
    assert torch.equal(augmented_clip(clip, seed, **ALL), first)
    assert torch.equal(clip, before)
    assert first.isfinite().all()
    assert len(first) <= 1.4 * RATE + 2
    assert not torch.equal(augmented_clip(clip, seed + 1, **ALL), first)


def test_without_augmentation_a_clip_is_only_cropped() -> None:
    clip = noise(0.5)
    assert torch.equal(augmented(clip, [], None, 0, 0, RATE, config_of()), clip)
    long = noise(3)
    starts = set()
    for seed in range(40):
        found = augmented(long, [], None, 0, seed, RATE, config_of())
        assert len(found) == RATE
        starts.add(int((long.unfold(0, 3, 1) == found[:3]).all(1).nonzero()[0]))
    assert min(starts) < RATE / 2
    assert max(starts) > 1.5 * RATE


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_noise_has_the_requested_snr(snr_db: float) -> None:
    clip = tone(500)
    out = augmented(clip, [], None, 0, 5, RATE, config_of(noise=1, snr_db=(snr_db, snr_db)))
    assert 20 * math.log10(level(clip) / level(out - clip)) == pytest.approx(snr_db, abs=0.01)
    voices = [noise(0.4, 3), noise(2, 4)]
    out = augmented(clip, voices, None, 0, 5, RATE, config_of(babble=1, snr_db=(snr_db, snr_db)))
    assert 20 * math.log10(level(clip) / level(out - clip)) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize(("exponent", "slope_db"), [(0.0, 0.0), (1.0, -3.01)])
def test_noise_is_white_or_pink(exponent: float, slope_db: float) -> None:
    spectrum = (
        torch.fft.rfft(augment.coloured(1 << 19, exponent, generator(), torch.device("cpu"))).abs().square()
    )
    hertz = torch.linspace(0, RATE / 2, len(spectrum))
    octaves = [float(spectrum[(hertz >= f) & (hertz < 2 * f)].mean()) for f in (200, 400, 800, 1600)]
    slopes = np.diff(10 * np.log10(octaves))
    np.testing.assert_allclose(slopes, slope_db, atol=0.3)


def test_mix_contains_the_share_of_the_partner() -> None:
    clip, partner = tone(300), 0.01 * tone(2000, 2.0)
    out = augment.mixed(clip, partner, 0.25, rng())
    assert len(out) == len(clip)
    other = out - 0.75 * clip
    assert pitch(other) == pytest.approx(2000, abs=5)
    assert float(level(other) / level(clip)) == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("factor", [0.85, 1.1, 1.2])
def test_pitch_shift_keeps_the_tempo(factor: float) -> None:
    clip = tone(1000)
    out = augment.shifted(clip, factor)
    assert len(out) == len(clip)
    assert pitch(out) == pytest.approx(1000 * factor, rel=0.01)
    assert float(level(out)) == pytest.approx(float(level(clip)), rel=1e-3)


def test_phase_vocoder_equals_torchaudio() -> None:
    clip, size = noise(1), augment.STRETCH_FFT
    window = torch.hann_window(size)
    fast = augment.resample(clip, 113, 100)
    spectrum = torch.stft(fast, size, size // 4, window=window, return_complex=True)
    advance = torch.linspace(0, math.pi * size / 4, size // 2 + 1)[:, None]
    slow = torch.istft(
        phase_vocoder(spectrum, 1 / 1.13, advance), size, size // 4, window=window, length=len(clip)
    )
    out, inner = augment.shifted(clip, 1.13), slice(0, -2 * size)
    np.testing.assert_allclose(out[inner] / level(out[inner]), slow[inner] / level(slow[inner]), atol=0.02)


def test_speed_changes_pitch_and_length() -> None:
    config = config_of(speed=0.2)
    found = [augmented(tone(1000, 0.8), [], None, 0, seed, RATE, config) for seed in range(20)]
    for out in found:
        assert pitch(out) * len(out) == pytest.approx(1000 * 0.8 * RATE, rel=0.01)
    assert max(map(pitch, found)) > 1100
    assert min(map(pitch, found)) < 900


def test_tilt_is_in_db_per_octave() -> None:
    clip = tone(500, amplitude=0.1) + tone(2000, amplitude=0.1)
    out = augment.filtered(clip, RATE, 3.0, 0.0, 0.0, generator())
    spectrum = torch.fft.rfft(out[: RATE // 2]).abs()
    assert 20 * math.log10(spectrum[1000] / spectrum[250]) == pytest.approx(6.0, abs=0.1)  # two octaves
    assert float(level(out)) == pytest.approx(float(level(clip)), rel=1e-3)


def test_reverberation_follows_the_sound_and_decays() -> None:
    clip = torch.zeros(RATE)
    clip[100] = 1.0
    out = augment.filtered(clip, RATE, 0.0, 0.5, 0.5, generator())
    assert int(out.abs().argmax()) == 100
    assert out[:100].abs().max() < 1e-4
    early, late = level(out[101:1700]), level(out[100 + 4000 : 100 + 5600])
    assert 20 * math.log10(early / late) == pytest.approx(60 * 4000 / 8000, abs=4)  # 60 dB in half a second
    assert out[100 + RATE // 2 :].abs().max() < 1e-4


def test_added_silence_is_quiet_and_at_the_ends() -> None:
    clip = tone(500)
    for seed in range(10):
        out = augment.with_silence(clip, 500, 300, rng(seed), generator(seed))
        assert torch.equal(out[500:-300], clip)
        assert level(out[:500]) < 10 ** (-45 / 20)


def test_gain_is_within_its_range() -> None:
    clip = tone(500)
    config = config_of(gain_db=6)
    out = [augmented(clip, [], None, 0, seed, RATE, config) for seed in range(50)]
    gains = [20 * math.log10(float(level(found) / level(clip))) for found in out]
    assert max(map(abs, gains)) <= 6.01
    assert np.ptp(gains) > 6


def test_babble_uses_training_clips_for_the_requested_share() -> None:
    rows = [background_rows(seed, np.array([4, 7, 9]), config_of(babble=0.3)) for seed in range(600)]
    assert {r for found in rows for r in found} == {4, 7, 9}
    assert np.mean([bool(found) for found in rows]) == pytest.approx(0.3, abs=0.06)
    assert max(map(len, rows)) == augment.MOST_VOICES


@given(st.integers(1, 400), st.integers(1, 80), st.integers(0, 2**62), st.integers(0, 4), st.integers(0, 4))
def test_masks_are_within_features(frames: int, bands: int, seed: int, in_time: int, in_bands: int) -> None:
    config = config_of(time_masks=in_time, frequency_masks=in_bands, time_mask_s=0.5, frequency_mask=0.25)
    times, narrow = masks(frames, bands, 100.0, seed, config)
    assert (len(times), len(narrow)) == (in_time, in_bands)
    assert all(0 <= a <= b <= frames and b - a <= 50 for a, b in times)
    assert all(0 <= a <= b <= bands and b - a <= max(1, round(0.25 * bands)) for a, b in narrow)
    assert masks(frames, bands, 100.0, seed, config) == (times, narrow)
