"""Decode any slice of a recording to mono int16, with the same samples as decoding all of it."""

import itertools
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.audio.container import DecodeError, Source, open_source
from zsfuse_ray.audio.durations import ends_before_others
from zsfuse_ray.audio.frames import PREROLL_S, STRETCH_S, Clock, Frames, Position
from zsfuse_ray.audio.levels import recorded_scale
from zsfuse_ray.audio.mix import mix_block
from zsfuse_ray.audio.pcm import Timeline
from zsfuse_ray.audio.probe import Probe, probe
from zsfuse_ray.audio.segment import Channels
from zsfuse_ray.audio.sources import open_audio

__all__ = ["DecodeError", "Pcm", "Probe", "decode", "decode_channels", "probe"]

MAX_RATE = 48_000
MOST_SPLIT = 8  # channels that are decoded one by one, to limit memory
HEAD_FRAMES = 8  # decoded at the start of every recording to determine its clock
SCALED = "its float samples have a full scale of {:.0f}, not 1.0: they were divided by it"
LOST_S = 0.25  # audio that may be missing at the end without a rejects row


@dataclass(frozen=True)
class Pcm:
    """Mono int16 samples, shape (n,); samples[0] is at `start_s` of the recording.

    `truncated` describes what is missing if part of the requested slice could not be read; `note` what was
    done to it that a user should know.
    """

    samples: NDArray[np.int16]
    sample_rate: int
    start_s: float
    truncated: str | None
    note: str | None = None


def decode(
    uri: str, start_s: float = 0.0, end_s: float | None = None, *, timeout_s: float = 600, max_s: float = 7200
) -> Pcm:
    """Decode [start_s, end_s) of a recording (None: to its end), at most `max_s` seconds of it.

    The rate is the recording's own up to 48 kHz; higher ones are resampled to 48 kHz. Times are those
    of the recording's clock, as players show them: audio that starts late is silent before, and a gap in the
    time stamps is silent. They become sample indices as round(seconds * rate). Raises DecodeError if nothing
    can be decoded and SourceError if the recording cannot be fetched.
    """
    return decode_channels(uri, start_s, end_s, timeout_s=timeout_s, max_s=max_s)[0]


def decode_channels(
    uri: str,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    channels: Channels = "mix",
    timeout_s: float = 600,
    max_s: float = 7200,
) -> list[Pcm]:
    """Decode as `decode` does: the mix of all channels, the first, or each by itself.

    A channel has the samples of a mono recording of it, at the same positions. DecodeError also for more than
    MOST_SPLIT channels to be split.
    """
    deadline = time.monotonic() + timeout_s
    with open_audio(uri) as file:
        for seek in (True, False):
            with open_source(file, uri, deadline) as source:
                found = _decode_slice(source, start_s, end_s, max_s, seek, channels)
            if found is not None:
                return found
    raise AssertionError("reading from the beginning always returns or raises")


def _decode_slice(
    source: Source, start_s: float, end_s: float | None, max_s: float, seek: bool, channels: Channels
) -> list[Pcm] | None:
    """Decode a slice; None if seeking went past its start and it must be read from the beginning."""
    divisor = recorded_scale(source)
    frames = Frames(source)
    stream = iter(frames)
    head = list(itertools.islice(stream, HEAD_FRAMES))
    if not head:
        raise _nothing_decoded(source, frames)
    chosen = _chosen_channels(channels, head[0].layout.nb_channels, source.uri)
    clock = frames.clock = Clock(source, head, frames.faults > 0)
    rate, out_rate = clock.rate, min(clock.rate, MAX_RATE)
    first = round(start_s * out_rate)
    longest = first + round(max_s * out_rate)
    last = longest if end_s is None else min(round(end_s * out_rate), longest)
    margin = rate // 10 if rate != out_rate else 0  # reach of the resampler's filter beyond the slice
    begin, needed = first * rate // out_rate - margin, -(-last * rate // out_rate) + margin
    block = mix_block(rate) if head[0].layout.nb_channels > 1 else 1  # a mix is decided on for whole blocks
    begin, end = begin // block * block, -(-needed // block) * block

    expected: Position | None = clock.start
    stretch = max(0, begin) // (STRETCH_S * rate)
    target = (stretch * STRETCH_S * rate if frames.wanders else begin) - round(PREROLL_S * rate)
    if seek and target > clock.start + sum(frame.samples for frame in head):
        if not clock.can_seek:
            return None
        try:
            source.container.seek(clock.ticks(target), stream=source.stream)
        except av.error.FFmpegError:
            return None
        head, expected = [], None
        frames = Frames(source, clock, stretch)
        stream = iter(frames)

    timelines = [Timeline(rate, out_rate, divisor, channel) for channel in chosen]
    lost, faults = 0, 0
    for frame in itertools.chain(head, stream):
        position = clock.place(frame, expected)
        if position is None:
            continue  # no timestamp yet after a seek: inside the pre-roll
        if expected is None and (frames.start is None or frames.start > target):
            return None
        if expected is not None and (frames.faults > faults or frames.contiguous):
            lost += max(0, min(position, needed) - max(expected, begin))
        faults = frames.faults
        if position >= end:
            expected = position
            break
        same = frame.sample_rate == rate
        expected = position + (frame.samples if same else Fraction(frame.samples * rate, frame.sample_rate))
        if expected > begin:
            for timeline in timelines:
                timeline.add(frame, position)
    if expected is None:
        return None
    rendered = [timeline.render(first, last, whole=expected >= needed) for timeline in timelines]

    cut = end_s is None or round(end_s * out_rate) > longest
    if expected < needed:
        truncated = _shortfall(source, frames, float(expected / rate), first / out_rate, last / out_rate)
    elif cut:
        truncated = f"cut at the limit of {max_s:g} s"
    else:
        truncated = None
    if truncated is None and lost > LOST_S * rate:
        truncated = f"{faults} damaged packets: {float(lost / rate):.2f} s replaced by silence"
    scaled = [SCALED.format(divisor)] if divisor != 1 else []
    notes = dict.fromkeys([*scaled, *(note for timeline in timelines for note in timeline.mixer.notes)])
    note = "; ".join(notes) or None
    return [Pcm(samples, out_rate, start_s, truncated, note) for samples in rendered]


def _chosen_channels(channels: Channels, number: int, uri: str) -> list[int | None]:
    """The channels to decode; None is their mix."""
    if channels != "split":
        return [None if channels == "mix" else 0]
    if number > MOST_SPLIT:
        raise DecodeError(
            "too_many_channels", f"{number} channels, --channels split takes up to {MOST_SPLIT}: {uri}"
        )
    return list(range(number))


def _shortfall(source: Source, frames: Frames, reached_s: float, start_s: float, end_s: float) -> str | None:
    """Return why reading stopped at `reached_s`, before the slice's end; None at the recording's end."""
    stated_s = source.stated_s or 0.0
    if frames.broken is not None:
        return f"reading failed at {reached_s:.2f} s: {frames.broken}"
    if frames.faulty_s > LOST_S:
        return f"{frames.faulty_s:.2f} s from {reached_s:.2f} s cannot be decoded"
    if source.stated and not source.stated.own and ends_before_others(source.container, reached_s):
        return None
    if reached_s <= start_s < end_s:
        return f"the audio ends at {reached_s:.2f} s, before {start_s:.2f} s"
    if min(stated_s, end_s) - reached_s > LOST_S:
        return f"the audio ends at {reached_s:.2f} s, its header states {stated_s:.2f} s"
    return None


def _nothing_decoded(source: Source, frames: Frames) -> DecodeError:
    stated = source.stated_s or 0.0
    if frames.broken is None and not frames.faults and stated < LOST_S:
        return DecodeError("empty", f"contains no audio: {source.uri}")
    why = frames.broken or (
        f"{frames.faults} damaged packets" if frames.faults else f"its header states {stated:.1f} s"
    )
    return DecodeError("corrupt", f"nothing could be decoded ({why}): {source.uri}")
