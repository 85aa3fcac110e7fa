"""Clips of speech, cut at fixed positions, for comparing models with their references."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from zsfuse_ray.audio.decode import decode
from zsfuse_ray.audio.demo import PROSODIES, speech_like
from zsfuse_ray.audio.resample import resample

SECONDS = (0.3, 1, 3, 7, 10, 12, 30)
_RATE = 16000


@lru_cache
def real_clips(shared: Path) -> dict[float, Tensor]:
    """Return a 16 kHz float clip of each length, cut from concatenated German acted sentences (EmoDB)."""
    files = sorted((shared / "corpora" / "emodb").glob("*.flac"))[:40]
    decoded = [decode(str(file)) for file in files]
    return _cut(
        torch.cat([resample(torch.from_numpy(pcm.samples), pcm.sample_rate, _RATE) for pcm in decoded])
    )


@lru_cache
def podcast_clips(shared: Path) -> dict[float, Tensor]:
    """Return a 48 kHz float clip of each length, from a podcast."""
    clips = {}
    for start, seconds in zip((20, 25, 30, 40, 50, 70, 90), SECONDS, strict=True):
        pcm = decode(str(shared / "longform/podcast/episode-54.m4a"), start, start + seconds)
        clips[seconds] = resample(torch.from_numpy(pcm.samples), pcm.sample_rate, 48000)
    return clips


@lru_cache
def synthetic_clips() -> dict[float, Tensor]:
    """Return 16 kHz clips of the package's synthetic speech, for use without real audio."""
    return _cut(torch.from_numpy(speech_like(sum(SECONDS) + 1, PROSODIES[0], seed=0, rate=_RATE)).float())


def _cut(speech: Tensor) -> dict[float, Tensor]:
    clips, start = {}, 0
    for seconds in SECONDS:
        clips[seconds] = speech[start : start + int(seconds * _RATE)]
        start += len(clips[seconds])
    assert all(len(clip) == int(seconds * _RATE) for seconds, clip in clips.items())
    return clips
