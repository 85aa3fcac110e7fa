"""Channels that cancel, scaled floats, quiet and silent audio: nothing is lost without a word."""

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio.decode import Pcm, decode
from zsfuse_ray.audio.levels import full_scale, is_silent
from zsfuse_ray.audio.mix import BEYOND, STRONGER
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.vad import find_segments

RATE = 16_000


def write_floats(path: Path, samples: NDArray, kind: str = "<f4") -> Path:
    """Write float samples, (n,) or (channels, n), to a WAV file as they are."""
    planes = np.atleast_2d(samples).astype(kind)
    channels, size = len(planes), planes.itemsize
    fmt = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, 3, channels, RATE, RATE * channels * size, channels * size, 8 * size
    )
    data = np.ascontiguousarray(planes.T).tobytes()
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path


def spoken(pcm: Pcm, how: Segmentation = Segmentation()) -> list[tuple[float, float]]:  # noqa: B008
    return [(s.start_s, s.end_s) for s in find_segments(pcm.samples, pcm.sample_rate, how)]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a"])
@pytest.mark.parametrize(("gain", "offset"), [(-1.0, 0), (-0.8, 0), (-1.0, 3000)])
def test_channels_that_cancel(tmp_path: Path, suffix: str, gain: float, offset: int) -> None:
    codec = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "m4a": "aac"}[suffix]
    left = chirp(6, RATE)
    planes = np.stack([left, gain * left]).astype(np.int16) + np.int16(offset)
    path = write(tmp_path / f"a.{suffix}", codec, planes, RATE, layout="stereo", bit_rate=128_000)
    whole = decode(str(path))
    assert whole.note == STRONGER
    level = whole.samples[RATE : 5 * RATE].astype(float).std()
    assert level == pytest.approx(left[RATE : 5 * RATE].astype(float).std(), rel=0.15)
    for start, end in ((1.3, 2.7), (3.0, 4.4)):
        part = decode(str(path), start, end)
        np.testing.assert_array_equal(part.samples, whole.samples[round(start * RATE) : round(end * RATE)])
    if suffix in ("wav", "flac"):
        np.testing.assert_array_equal(whole.samples, planes[0])


def test_one_of_many_channels_is_not_lost(tmp_path: Path) -> None:
    planes = np.zeros((16, 2 * RATE))
    planes[11] = chirp(2, RATE) / 32768
    pcm = decode(str(write_floats(tmp_path / "a.wav", planes)))
    np.testing.assert_array_equal(pcm.samples, chirp(2, RATE))
    assert pcm.note == STRONGER


def test_channels_that_do_not_cancel_are_averaged(tmp_path: Path) -> None:
    """Also where they are unrelated, or one is silent."""
    left, right = chirp(3, RATE), np.random.default_rng(1).normal(0, 3000, 3 * RATE).astype(np.int16)
    for other in (right, np.zeros_like(left), left):
        planes = np.stack([left, other])
        pcm = decode(str(write(tmp_path / "a.wav", "pcm_s16le", planes, RATE, layout="stereo")))
        np.testing.assert_array_equal(pcm.samples, np.rint(planes.mean(axis=0)))
        assert pcm.note is None


@pytest.mark.parametrize("scale", [2.0**15, 2.0**23, 2.0**31])
@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_floats_with_the_scale_of_integers(tmp_path: Path, scale: float, kind: str) -> None:
    """Also where the beginning is silent, and in each slice."""
    sound = chirp(8, RATE)
    sound[: 3 * RATE] = 0
    path = write_floats(tmp_path / "a.wav", sound * (scale / 32768), kind)
    whole = decode(str(path))
    np.testing.assert_array_equal(whole.samples, sound)
    assert f"{scale:.0f}" in (whole.note or "")
    np.testing.assert_array_equal(decode(str(path), 0.5, 4).samples, sound[RATE // 2 : 4 * RATE])


def test_loud_floats_are_not_taken_for_scaled(tmp_path: Path) -> None:
    sound = chirp(4, RATE) / 32768
    assert decode(str(write_floats(tmp_path / "a.wav", 1.8 * sound))).note is None
    loud = decode(str(write_floats(tmp_path / "a.wav", 5 * sound)))
    assert loud.note == BEYOND
    assert np.abs(loud.samples.astype(int)).max() >= 32_767
    assert full_scale(np.array([np.nan, np.inf])) == 1.0


@pytest.mark.parametrize("decibels", [-20, -40, -60, -70])
@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_quiet_speech_is_found(shared: Path, tmp_path: Path, decibels: float, offset: float) -> None:
    plain = decode(str(shared / "cases/manifests/a.wav"))
    quiet = plain.samples / 32768 * 10 ** (decibels / 20) + offset
    found = spoken(decode(str(write_floats(tmp_path / "a.wav", quiet))))
    assert np.array(found) == pytest.approx(np.array(spoken(plain)), abs=0.1 if decibels > -70 else 0.25)


@pytest.mark.parametrize("vad", ["silero", "none"])
def test_silence_has_no_segments(vad) -> None:
    dither = np.random.default_rng(0).integers(-1, 2, 30 * RATE).astype(np.int16)
    for sound in (np.zeros(30 * RATE, np.int16), dither, dither + np.int16(9000)):
        assert find_segments(sound, RATE, Segmentation(vad)) == []
        assert is_silent(sound, RATE)
    sound = dither.copy()
    sound[12 * RATE : 14 * RATE] = chirp(2, RATE) // 1000  # -60 dB
    if vad == "none":
        assert [s.start_s for s in find_segments(sound, RATE, Segmentation(vad))] == [10.0]


def test_noise_is_not_taken_for_quiet_speech() -> None:
    rng = np.random.default_rng(0)
    for level in (3, 30, 300):
        for noise in (rng.normal(0, level, 40 * RATE), np.cumsum(rng.normal(0, level / 50, 40 * RATE))):
            assert find_segments(noise.clip(-32768, 32767).astype(np.int16), RATE, Segmentation()) == []
