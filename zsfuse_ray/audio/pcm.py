"""Convert decoded frames to mono int16 samples."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.container import DecodeError

_SCALE = {"flt": 32768.0, "dbl": 32768.0, "s16": 1.0, "s32": 2.0**-16, "u8": 256.0}
_MAX_PLANES = 8  # with this many or more, PyAV reads past the end of a frame's list of planes
_BLOCK = 1 << 20  # samples passed to the resampler at once


def mono_int16(frames: Sequence[av.AudioFrame]) -> NDArray[np.int16]:
    """Return the mean over channels of frames of one format; shape (samples,).

    NaN and infinite samples count as 0, the mean is clipped; 16-bit mono is unchanged.
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
    if channels == 1 and planes.dtype == np.int16:
        return planes[0]
    total = np.zeros(planes.shape[1], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for plane in planes:
            total += plane
        if not np.isfinite(total).all():
            total = np.nan_to_num(planes, nan=0.0, posinf=0.0, neginf=0.0).sum(axis=0, dtype=np.float32)
    total /= channels
    if planes.dtype == np.uint8:
        total -= 128.0
    total *= _SCALE[kind]
    return np.rint(total).clip(-32768, 32767).astype(np.int16)


def resample(samples: NDArray[np.int16], rate: int, new_rate: int) -> NDArray[np.int16]:
    """Return mono samples at another rate (FFmpeg's polyphase filter); the first keeps its time."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=new_rate)

    def fed() -> Iterator[av.AudioFrame | None]:
        for at in range(0, len(samples), _BLOCK):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + _BLOCK], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            yield frame
        yield None

    blocks = [out.to_ndarray()[0] for frame in fed() for out in resampler.resample(frame)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


class Timeline:
    """Mono audio by position, in samples at `rate` from the start of the recording.

    Frames at another rate (concatenated streams) are resampled. Gaps are silent.
    """

    def __init__(self, rate: int):
        self.rate = rate
        self._runs: list[_Run] = []

    def add(self, frame: av.AudioFrame, position: int | Fraction) -> None:
        """Append a frame; one that starts where the last ended continues it."""
        run = self._runs[-1] if self._runs else None
        if run is None or run.rate != frame.sample_rate or position != run.end(self.rate):
            if run is not None:
                run.convert()
            run = _Run(position, frame.sample_rate)
            self._runs.append(run)
        run.add(frame)

    def render(self, first: int, last: int, new_rate: int, whole: bool) -> NDArray[np.int16]:
        """Return the samples [first, last), counted at `new_rate`; without `whole`, up to the last frame."""
        step = Fraction(new_rate, self.rate)
        parts = []
        for run in self._runs:
            run.convert()
            samples = run.samples()
            # Resampling starts on a sample common to both rates, so that slices match exactly.
            skip = -round(run.position) % step.denominator if run.rate == self.rate != new_rate else 0
            at = round((run.position + skip) * step) - first
            if run.rate != new_rate:
                samples = resample(samples[skip:], run.rate, new_rate)
            parts.append((at, samples))
        reached = last if whole else max((at + len(samples) for at, samples in parts), default=0)
        out = np.zeros(max(0, min(last - first, reached)), np.int16)
        reached = 0
        for at, samples in parts:
            begin, end = max(0, at), min(len(out), at + len(samples))
            if begin < end:
                if 0 < begin - reached < new_rate // 1000:  # a rounded timestamp, not silence
                    out[reached:begin] = out[reached - 1]
                out[begin:end] = samples[begin - at : end - at]
                reached = end
        return out


class _Run:
    """Frames without a gap, at one sample rate; `position` counts at the timeline's rate."""

    def __init__(self, position: int | Fraction, rate: int):
        self.position = position
        self.rate = rate
        self._length = 0
        self._pending: list[av.AudioFrame] = []
        self._blocks: list[NDArray[np.int16]] = []

    def end(self, rate: int) -> int | Fraction:
        return self.position + Fraction(self._length * rate, self.rate)

    def add(self, frame: av.AudioFrame) -> None:
        if self._pending:
            last = self._pending[-1]
            if (
                len(self._pending) == 64
                or last.format.name != frame.format.name
                or last.layout != frame.layout
            ):
                self.convert()
        self._pending.append(frame)
        self._length += frame.samples

    def convert(self) -> None:
        """Turn the frames collected so far into samples."""
        if self._pending:
            self._blocks.append(mono_int16(self._pending))
            self._pending.clear()

    def samples(self) -> NDArray[np.int16]:
        return np.concatenate(self._blocks)
