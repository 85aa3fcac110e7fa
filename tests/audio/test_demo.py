import io
from hashlib import sha256

import numpy as np
import pytest
import soundfile

from zsfuse_ray.audio.demo import PROSODIES, RATE, RECORDINGS, demo_uris, demo_wav, speech_like
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.sources import open_audio
from zsfuse_ray.audio.vad import find_segments


def test_demo_lasts_one_minute() -> None:
    lengths = [soundfile.info(io.BytesIO(demo_wav(n))).duration for n in range(RECORDINGS)]
    assert sum(lengths) == 60.0


@pytest.mark.parametrize("n", range(RECORDINGS))
def test_recordings_are_deterministic_and_distinct(n: int) -> None:
    digest = sha256(demo_wav(n)).digest()
    assert sha256(demo_wav(n)).digest() == digest
    assert digest not in {sha256(demo_wav(other)).digest() for other in range(RECORDINGS) if other != n}


def test_demo_uris_open_the_recordings() -> None:
    for n, uri in enumerate(demo_uris()):
        with open_audio(uri) as file:
            assert file.read() == demo_wav(n)


@pytest.mark.parametrize("n", range(RECORDINGS))
def test_speech_is_found_in_every_recording(n: int) -> None:
    samples, rate = soundfile.read(io.BytesIO(demo_wav(n)), dtype="int16")
    assert (rate, samples.ndim) == (RATE, 1)
    assert np.abs(samples.astype(int)).max() < 32767  # nothing clipped
    found = find_segments(samples, rate, Segmentation())
    assert len(found) >= 2
    assert sum(segment.end_s - segment.start_s for segment in found) > 5.0


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_speech_like_audio_of_any_length_and_rate(rate: int) -> None:
    samples = speech_like(3.3, PROSODIES[0], seed=1, rate=rate)
    assert samples.shape == (int(3.3 * rate),)
    assert np.abs(samples).max() == pytest.approx(PROSODIES[0].loudness, rel=0.05)
