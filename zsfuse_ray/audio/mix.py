"""Decoded frames of any sample format → mono int16 samples."""

from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.container import DecodeError

_SCALE = {"flt": 32768.0, "dbl": 32768.0, "s16": 1.0, "s32": 2.0**-16, "u8": 256.0}
_MAX_PLANES = 8  # with this many or more, PyAV reads past the end of a frame's list of planes
CANCELLED = 0.1  # a mix with less than this share of its channels' mean energy has lost most of it
CLIPPED = 0.01  # share of float samples beyond full scale that is reported; rare peaks are usual

STRONGER = "its channels cancel out when mixed: the strongest was used"
BEYOND = "its float samples go beyond full scale (1.0) and were clipped"


def mix_block(rate: int) -> int:
    """Return the number of samples that one decision on a mix is for, on a grid of the recording."""
    return rate


def planes_of(frames: Sequence[av.AudioFrame]) -> NDArray:
    """Return the samples of frames of one format, (channels, samples), on the scale of int16.

    int16, or float32 for all other formats. NaN and infinite samples count as 0.
    """
    channels = frames[0].layout.nb_channels
    kind = frames[0].format.name.removesuffix("p")
    if kind not in _SCALE:
        raise DecodeError("unsupported", f"sample format {kind} is not supported")
    planar = frames[0].format.is_planar
    if planar and channels >= _MAX_PLANES:
        packer = av.AudioResampler(format=kind)
        frames, planar = [packed for frame in frames for packed in packer.resample(frame)], False
    arrays = [frame.to_ndarray() for frame in frames]
    samples = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)
    planes = samples if planar else samples.reshape(-1, channels).T
    if kind == "s16":
        return planes
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = planes.astype(np.float32)
        if kind == "u8":
            scaled -= 128.0
        scaled *= _SCALE[kind]
    if not np.isfinite(scaled).all():
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return scaled


class Mixer:
    """Turns channels into mono int16, and remembers what a user should know of it.

    divisor: of samples that are not integers, 1 unless their full scale is not 1.0; channel: the one that is
    kept, counted from 0, None for the mix of all.
    """

    def __init__(self, divisor: float = 1.0, channel: int | None = None):
        self._divisor = divisor
        self._channel = channel
        self._cancelled = False
        self._samples = self._beyond = 0

    @property
    def notes(self) -> list[str]:
        """What happened to the samples mixed so far, for a user."""
        return [STRONGER] * self._cancelled + [BEYOND] * (self._beyond > CLIPPED * self._samples)

    def mix(self, planes: NDArray) -> NDArray[np.int16]:
        """Return the mean over channels, clipped, (channels, samples) → (samples,); 16-bit mono is unchanged.

        Where the channels cancel out, the strongest alone. A constant offset does not count as energy. A
        single channel is silent in stretches that do not have it.
        """
        if self._channel is not None:
            planes = planes[self._channel : self._channel + 1]
            if not len(planes):
                return np.zeros(planes.shape[1], np.int16)
        if planes.dtype == np.int16 and len(planes) == 1:
            return planes[0]
        values = np.ascontiguousarray(planes, np.float32)
        mono = values.mean(axis=0)
        if len(values) > 1:
            energies = values.var(axis=1)
            if mono.var() < CANCELLED * energies.mean():
                mono = values[int(np.argmax(energies))]
                self._cancelled = True
        if planes.dtype != np.int16:
            mono = mono / self._divisor
            self._samples += len(mono)
            self._beyond += int(np.count_nonzero(np.abs(mono) > 32768))
        return np.rint(mono).clip(-32768, 32767).astype(np.int16)
