"""Real speech for the models, of the lengths that matter to a window of ten seconds."""

from pathlib import Path

import torch

from zsfuse_ray.audio.decode import decode
from zsfuse_ray.audio.resample import resample


def real_clips(shared: Path, rate: int = 48000) -> dict[float, torch.Tensor]:
    """Return stretches of a podcast at a rate in Hz, by their seconds."""
    clips = {}
    for start, seconds in ((20, 0.3), (25, 1), (30, 3), (40, 7), (50, 10), (70, 12), (90, 30)):
        pcm = decode(str(shared / "longform/podcast/episode-54.m4a"), start, start + seconds)
        clips[seconds] = resample(torch.from_numpy(pcm.samples), pcm.sample_rate, rate)
    return clips
