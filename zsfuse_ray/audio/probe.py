"""Probe a recording for the plan, from its header if that is sufficient."""

import time
from dataclasses import dataclass

import av
import av.error

from zsfuse_ray.audio.container import DecodeError, Source, open_source
from zsfuse_ray.audio.sources import open_audio

COUNT_TIME_S = 120.0  # limit for counting packets to find the duration


@dataclass(frozen=True)
class Probe:
    """Properties of a recording. `exact` is False if the duration is an estimate."""

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
        return Probe(
            duration_s=duration,
            sample_rate=context.sample_rate,
            channels=context.layout.nb_channels,
            container=source.container.format.name,
            codec=context.codec.canonical_name,
            exact=exact,
        )


def _count(source: Source, deadline: float) -> tuple[float, bool]:
    """Return the duration by demuxing without decoding, and whether the end was reached."""
    start: int | None = source.stream.start_time
    end = 0
    complete = True
    try:
        for packet in source.container.demux(source.stream):
            source.check()
            if not packet.size:
                continue
            if start is None:
                start = packet.pts or 0
            # Timestamps may jump back (concatenated streams).
            end = max(packet.pts if packet.pts is not None else end, end) + (packet.duration or 0)
            if time.monotonic() > deadline:
                complete = False
                break
    except (av.error.FFmpegError, IndexError):  # a damaged end, or PyAV with a stream that starts late
        source.check()
    counted = float((end - (start or 0)) * source.stream.time_base) if source.stream.time_base else 0.0
    if not complete and source.container.duration:
        return max(counted, source.container.duration / av.time_base), False
    return max(counted, 0.0), complete
