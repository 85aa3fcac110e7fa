"""Probe a recording for the plan, from its header if that is sufficient."""

import time
from dataclasses import dataclass

import av
import av.error

from zsfuse_ray.audio.container import DecodeError, Source, open_source
from zsfuse_ray.audio.durations import LONGEST_S, counts_bytes
from zsfuse_ray.audio.frames import FAR_S, Position
from zsfuse_ray.audio.sources import open_audio

COUNT_TIME_S = 120.0  # limit for counting packets to find the duration


@dataclass(frozen=True)
class Probe:
    """Properties of a recording. `exact` is False if the duration is an estimate.

    duration_s: the end of the audio on the recording's clock, in seconds; sample_rate in Hz.
    """

    duration_s: float
    sample_rate: int
    channels: int
    container: str
    codec: str
    exact: bool


def probe(uri: str, *, timeout_s: float = 600) -> Probe:
    """Return a recording's properties, from its header if that has the duration, else by counting packets.

    Raises DecodeError and SourceError.
    """
    deadline = time.monotonic() + timeout_s
    with open_audio(uri) as file, open_source(file, uri, deadline) as source:
        context = source.stream.codec_context
        if not (context.sample_rate and context.layout.nb_channels):
            raise DecodeError("corrupt", f"no sample rate or channels in its header: {uri}")
        duration, exact = source.stated_s, True
        if duration is None:
            duration, exact = _count(source, min(deadline, time.monotonic() + COUNT_TIME_S))
            if counts_bytes(source.container.format.name, context.name) and source.container.duration:
                duration, exact = min(duration, source.container.duration / av.time_base), False
        if duration > LONGEST_S:
            days = f"{duration / 86400:.0f} days, the maximum is {LONGEST_S / 86400:.0f}"
            raise DecodeError("unsupported", f"{days}: {uri}")
        return Probe(
            duration_s=duration,
            sample_rate=context.sample_rate,
            channels=context.layout.nb_channels,
            container=source.container.format.name,
            codec=context.codec.canonical_name,
            exact=exact,
        )


def _count(source: Source, deadline: float) -> tuple[float, bool]:
    """Return the duration by demuxing without decoding, and whether the end was reached.

    An absurd timestamp is ignored, as in decoding: the packet follows the one before it.
    """
    time_base = source.stream.time_base
    if not time_base:
        return 0.0, False
    zero = None if source.zero_s is None else source.zero_s / time_base
    end: Position = 0
    complete = True
    try:
        for packet in source.container.demux(source.stream):
            source.check()
            if not packet.size:
                continue
            if zero is None:
                zero = source.stream.start_time if source.stream.start_time is not None else packet.pts or 0
            # Timestamps may jump back (concatenated streams).
            at = packet.pts - zero if packet.pts is not None else end
            far = max(end, 0) + FAR_S / time_base
            end = (max(at, end) if at <= far else end) + max(0, packet.duration or 0)
            if time.monotonic() > deadline:
                complete = False
                break
    except (av.error.FFmpegError, IndexError):  # a damaged end, or PyAV with a stream that starts late
        source.check()
    counted_s = float(end * time_base)
    if not complete and source.container.duration:
        estimated_s = source.container.duration / av.time_base
        return max(counted_s, estimated_s if estimated_s <= LONGEST_S else 0.0), False
    return counted_s, complete
