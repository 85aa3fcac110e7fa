"""Collect decoded frames on a recording's timeline, as mono int16 samples at one rate."""

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.mix import Mixer, mix_block, planes_of

_PENDING = 1 << 20  # samples of all channels that are converted at once


class Resampler:
    """Mono samples at another rate (FFmpeg's polyphase filter); the first keeps its time."""

    def __init__(self, rate: int, new_rate: int):
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=new_rate)
        self._rate = rate
        self._at = 0

    def feed(self, samples: NDArray[np.int16]) -> list[NDArray[np.int16]]:
        """Return what is ready after these samples, in pieces."""
        if not len(samples):
            return []
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._at, Fraction(1, self._rate)
        self._at += len(samples)
        return [out.to_ndarray()[0] for out in self._resampler.resample(frame)]

    def flush(self) -> list[NDArray[np.int16]]:
        """Return the rest."""
        return [out.to_ndarray()[0] for out in self._resampler.resample(None)] if self._at else []


class Timeline:
    """Mono audio by position, in samples at `rate` from the start of the recording.

    Audio at another rate than out_rate is resampled to it. Gaps are silent. divisor, channel: as in `Mixer`.
    """

    def __init__(self, rate: int, out_rate: int, divisor: float = 1.0, channel: int | None = None):
        self.rate = rate
        self.out_rate = out_rate
        self.mixer = Mixer(divisor, channel)
        self._runs: list[_Run] = []

    def add(self, frame: av.AudioFrame, position: int | Fraction) -> None:
        """Append a frame; one that starts where the last ended continues it."""
        run = self._runs[-1] if self._runs else None
        if run is None or run.rate != frame.sample_rate or position != run.end(self.rate):
            if run is not None:
                run.close()
            # Resampling starts on a sample common to both rates, so that slices match exactly.
            common = Fraction(self.out_rate, self.rate).denominator
            skip = -round(position) % common if frame.sample_rate == self.rate != self.out_rate else 0
            run = _Run(position, frame.sample_rate, self.out_rate, skip, self.mixer)
            self._runs.append(run)
        run.add(frame)

    def render(self, first: int, last: int, whole: bool) -> NDArray[np.int16]:
        """Return the samples [first, last), counted at out_rate; without `whole`, up to the last frame."""
        step = Fraction(self.out_rate, self.rate)
        parts = [(round((run.position + run.skip) * step) - first, run.close()) for run in self._runs]
        reached = last if whole else max((at + len(samples) for at, samples in parts), default=0)
        out = np.zeros(max(0, min(last - first, reached)), np.int16)
        reached = 0
        for at, samples in parts:
            begin, end = max(0, at), min(len(out), at + len(samples))
            if begin < end:
                if 0 < begin - reached < self.out_rate // 1000:  # a rounded timestamp, not silence
                    out[reached:begin] = out[reached - 1]
                out[begin:end] = samples[begin - at : end - at]
                reached = end
        return out


class _Run:
    """Frames without a gap, at one sample rate; `position` counts at the timeline's rate.

    Frames become mono samples at out_rate as they come, without the first `skip` of them.
    """

    def __init__(self, position: int | Fraction, rate: int, out_rate: int, skip: int, mixer: "Mixer"):
        self.position = position
        self.rate = rate
        self.skip = skip
        self._mixer = mixer
        self._length = 0  # samples added
        self._mixed = 0  # samples in blocks, before resampling
        self._pending: list[av.AudioFrame] = []
        self._planes: NDArray | None = None  # the beginning of a block of several channels
        self._resampler = Resampler(rate, out_rate) if rate != out_rate else None
        self._blocks: list[NDArray[np.int16]] = []

    def end(self, rate: int) -> int | Fraction:
        return self.position + Fraction(self._length * rate, self.rate)

    def add(self, frame: av.AudioFrame) -> None:
        if self._pending:
            last = self._pending[-1]
            if last.format.name != frame.format.name or last.layout != frame.layout:
                self._convert(flush=True)
            elif len(self._pending) * frame.samples * frame.layout.nb_channels > _PENDING:
                self._convert(flush=False)
        self._pending.append(frame)
        self._length += frame.samples

    def close(self) -> NDArray[np.int16]:
        """Convert the rest and return all samples."""
        if self._pending or self._planes is not None:
            self._convert(flush=True)
        if self._resampler is not None:
            self._blocks += self._resampler.flush()
            self._resampler = None
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, np.int16), *self._blocks])]
        return self._blocks[0]

    def _convert(self, flush: bool) -> None:
        """Turn the frames collected so far into samples; without flush, a beginning of a block waits."""
        planes = planes_of(self._pending) if self._pending else None
        if self._planes is not None:
            planes = self._planes if planes is None else np.concatenate([self._planes, planes], axis=1)
        self._pending, self._planes = [], None
        assert planes is not None
        if len(planes) == 1:
            self._append(self._mixer.mix(planes))
            return
        block = mix_block(self.rate)
        while planes.shape[1]:
            size = block - (round(self.position) + self._mixed) % block
            if planes.shape[1] < size and not flush:
                self._planes = planes
                return
            self._append(self._mixer.mix(planes[:, :size]))
            planes = planes[:, size:]

    def _append(self, samples: NDArray[np.int16]) -> None:
        drop = max(0, self.skip - self._mixed)
        self._mixed += len(samples)
        samples = samples[drop:]
        self._blocks += [samples] if self._resampler is None else self._resampler.feed(samples)
