"""Clips of real speech, cut at fixed places, for comparing models with their references."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from zsfuse_ray.audio.decode import decode
from zsfuse_ray.audio.resample import resample

SECONDS = (0.3, 1, 3, 7, 10, 12, 30)
_RATE = 16000


@lru_cache
def real_clips(shared: Path) -> dict[float, Tensor]:
    """Return a 16 kHz float clip of each length: acted German sentences (EmoDB), one after another."""
    files = sorted((shared / "corpora" / "emodb").glob("*.flac"))
    speech = torch.cat([resample(torch.from_numpy(p.samples), p.sample_rate, _RATE) for p in map(_pcm, files[:40])])
    clips, start = {}, 0
    for seconds in SECONDS:
        clips[seconds] = speech[start : start + int(seconds * _RATE)]
        start += len(clips[seconds])
    assert all(len(clip) == int(seconds * _RATE) for seconds, clip in clips.items())
    return clips


def _pcm(file: Path):
    return decode(str(file))
