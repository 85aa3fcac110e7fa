"""Channels decoded one by one: the samples of mono recordings of them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio import isolated
from zsfuse_ray.audio.decode import MOST_SPLIT, DecodeError, decode, decode_channels

RATE = 16_000


def two(seconds: float = 6.0, rate: int = RATE) -> np.ndarray:
    """Two different channels, (2, samples)."""
    sound = chirp(seconds, rate)
    return np.stack([sound, sound[::-1] // 2])


@pytest.mark.parametrize("rate", [8000, RATE, 96_000])
@pytest.mark.parametrize("slice_s", [(0.0, None), (1.3, 4.7)])
def test_a_channel_is_decoded_like_a_mono_file(tmp_path: Path, rate: int, slice_s: tuple) -> None:
    planes = two(rate=rate)
    soundfile.write(tmp_path / "both.wav", planes.T, rate)
    found = decode_channels(str(tmp_path / "both.wav"), *slice_s, channels="split")
    assert len(found) == 2
    for n, plane in enumerate(planes):
        soundfile.write(tmp_path / f"{n}.wav", plane, rate)
        alone = decode(str(tmp_path / f"{n}.wav"), *slice_s)
        np.testing.assert_array_equal(found[n].samples, alone.samples)
        assert found[n].sample_rate == alone.sample_rate
    (first,) = decode_channels(str(tmp_path / "both.wav"), *slice_s, channels="first")
    np.testing.assert_array_equal(first.samples, found[0].samples)


@pytest.mark.parametrize(("codec", "suffix"), [("flac", "flac"), ("pcm_f32le", "wav"), ("libmp3lame", "mp3")])
def test_the_mix_is_the_mean_of_the_channels(tmp_path: Path, codec: str, suffix: str) -> None:
    file = str(write(tmp_path / f"both.{suffix}", codec, two(rate=48_000), layout="stereo"))
    one, other = (pcm.samples.astype(float) for pcm in decode_channels(file, channels="split"))
    assert np.abs(one - other).max() > 1000
    np.testing.assert_allclose(decode(file).samples, (one + other) / 2, atol=1.01)


def test_inverted_channels_do_not_cancel(tmp_path: Path) -> None:
    sound = chirp(3.0, RATE)
    soundfile.write(tmp_path / "inverted.wav", np.stack([sound, -sound]).T, RATE)
    file = str(tmp_path / "inverted.wav")
    for channels in ("mix", "split", "first"):
        for n, pcm in enumerate(decode_channels(file, channels=channels)):
            np.testing.assert_array_equal(pcm.samples, -sound if n else sound)
            assert bool(pcm.note) == (channels == "mix")


def test_a_mono_file_has_one_channel(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", chirp(2.0, RATE), RATE)
    for channels in ("split", "first"):
        (only,) = decode_channels(str(tmp_path / "mono.wav"), channels=channels)
        np.testing.assert_array_equal(only.samples, chirp(2.0, RATE))


def test_too_many_channels_to_split(tmp_path: Path) -> None:
    planes = chirp(1.0, RATE, MOST_SPLIT + 1)
    soundfile.write(tmp_path / "many.wav", planes.T, RATE)
    with pytest.raises(DecodeError, match="9 channels, --channels split takes up to 8"):
        decode_channels(str(tmp_path / "many.wav"), channels="split")
    (first,) = decode_channels(str(tmp_path / "many.wav"), channels="first")
    np.testing.assert_array_equal(first.samples, planes[0])


def test_channels_are_decoded_in_the_child(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "both.wav", two().T, RATE)
    file = str(tmp_path / "both.wav")
    for here, there in zip(
        decode_channels(file, 1, 4, channels="split"),
        isolated.decode_channels(file, 1, 4, channels="split"),
        strict=True,
    ):
        np.testing.assert_array_equal(here.samples, there.samples)
