"""Levels: the full scale of float samples, digital silence, and the gain of quiet audio."""

import itertools

import av.error
import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.container import Source

FULL_SCALES = (2.0**15, 2.0**23, 2.0**31)  # of integers that were stored as floats without scaling
SCALED_RMS = 8.0  # floats with a full scale of 1.0 are never so loud
WINDOWS = 8  # places of a recording that are looked at
_FRAMES = 4  # decoded at each

FRAME_S = 0.02
SILENT_RMS = 1.5  # int16 steps: dither is below


def full_scale(samples: NDArray) -> float:
    """Return the value that stands for full scale in float samples of any shape: 1, or that of integers."""
    finite = samples[np.isfinite(samples)].astype(np.float64)
    if not finite.size or np.sqrt(np.mean(finite**2)) < SCALED_RMS:
        return 1.0
    peak = np.abs(finite).max()
    return next((scale for scale in FULL_SCALES if peak <= 1.5 * scale), FULL_SCALES[-1])


def recorded_scale(source: Source) -> float:
    """Return the full scale of a recording's float samples, from a few places of it; 1 for other formats.

    Seeks, and returns to the beginning.
    """
    stream = source.stream
    if not stream.codec_context.name.startswith(("pcm_f32", "pcm_f64")) or not stream.time_base:
        return 1.0
    loudest, found = -1.0, 1.0
    for place in range(WINDOWS):
        try:
            source.container.seek(
                int((source.stated_s or 0.0) * place / WINDOWS / stream.time_base), stream=stream
            )
            frames = list(itertools.islice(source.container.decode(stream), _FRAMES))
        except av.error.FFmpegError:  # decoding will report it
            break
        if frames:
            samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames])
            peak = float(np.abs(samples[np.isfinite(samples)]).max(initial=0.0))
            if peak > loudest:
                loudest, found = peak, full_scale(samples)
    source.container.seek(0, stream=stream)
    return found


def is_silent(samples: NDArray[np.int16], rate: int) -> bool:
    """Return whether nothing but dither, a constant offset or slow drift is in mono samples."""
    size = max(1, int(FRAME_S * rate))
    frames = (
        np.pad(samples, (0, -len(samples) % size), mode="edge").reshape(-1, size) if len(samples) else samples
    )
    return not len(samples) or bool(frames.std(axis=1, dtype=np.float32).max() < SILENT_RMS)
