"""Where a recording's clock starts, and where its audio ends according to the container."""

from dataclasses import dataclass
from fractions import Fraction

import av
import av.container
import av.error
from av.audio.stream import AudioStream
from av.stream import Discard, Disposition

MIN_BIT_RATE = 100  # a duration implying a lower bit rate is wrong; even silence has ten times as much
UNKNOWN_BYTES = 0x7FFF0000  # written by streaming recorders for an unknown length
LONGEST_S = 30 * 24 * 3600.0  # longer durations are errors of the header

INTERLEAVE_S = 1.0  # how far apart muxers write what is simultaneous
# Containers with a clock of their own: players count from its zero, also where the audio starts later.
_FROM_ZERO = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "avi", "asf", "nut")
LATE_START_S = 3600.0  # where all streams start later, a piece was cut from a longer stream: its start counts
# Formats that store no duration: FFmpeg reports file size divided by bit rate.
_ESTIMATED = {"aac", "ac3", "adx", "amr", "dts", "eac3", "g722", "gsm", "loas", "mlp", "mp3", "truehd"}
# Containers that derive times from bytes at a mean rate: right for PCM, rough for all other codecs.
_BYTE_CLOCKS = {"wav", "w64", "aiff", "avi"}


def counts_bytes(container: str, codec: str) -> bool:
    """Return whether the container's times of this codec are too rough to place audio by them."""
    return container in _BYTE_CLOCKS and not codec.startswith("pcm_")


@dataclass(frozen=True)
class Stated:
    """The stated end of the audio in seconds; `own` is False if it may be that of another stream."""

    end_s: float
    own: bool


def clock_zero(container: av.container.InputContainer) -> Fraction | None:
    """Return the container's time in seconds that a player shows as 0; None: that of the first sample.

    Where a container has no zero of its own (transport streams), this is the start of its earliest stream.
    """
    start_s = Fraction(container.start_time or 0, av.time_base)
    if container.format.name in _FROM_ZERO:
        return Fraction(0) if start_s < LATE_START_S else start_s
    return start_s if len(container.streams) > 1 and not _covers_only(container) else None


def _covers_only(container: av.container.InputContainer) -> bool:
    """Return whether all streams but one are pictures or data, without a clock."""
    kinds = [s.type for s in container.streams if not s.disposition & Disposition.attached_pic]
    return sum(kind in ("audio", "video") for kind in kinds) < 2


def stated_end(
    container: av.container.InputContainer,
    stream: AudioStream,
    zero_s: Fraction | None,
    head: bytes,
    size: int,
) -> Stated | None:
    """Return the end of the audio that the header states; None if the file's size contradicts it.

    head: the file's first bytes; size: of the file, in bytes.
    """
    name = container.format.name
    if name == "avi" and counts_bytes(name, stream.codec_context.name):
        return None
    own = True
    if stream.duration and stream.time_base:
        late_s = (
            stream.start_time * stream.time_base - zero_s if stream.start_time and zero_s is not None else 0
        )
        end_s = float(stream.duration * stream.time_base + max(0, late_s))
    elif (tagged_s := _tagged_duration(stream)) is not None:
        end_s = tagged_s
    elif container.duration:
        end_s = container.duration / av.time_base - (float(zero_s or 0) if name in _FROM_ZERO else 0)
        own = len(container.streams) == 1
    else:
        return None
    if name == "wav":
        end_s *= _cut_factor(stream, head, size)
    if not 0 < end_s <= LONGEST_S or size * 8 < end_s * MIN_BIT_RATE:
        return None
    if name == "mp3" and any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
        # Concatenated files keep the frame count of the first, too small for the file size.
        bit_rate = stream.codec_context.bit_rate or 0
        return Stated(end_s, own) if size * 8 < 1.05 * end_s * bit_rate else None
    return None if name in _ESTIMATED else Stated(end_s, own)


def _tagged_duration(stream: AudioStream) -> float | None:
    """Return a Matroska track's own duration, which writers store as a tag such as 00:00:16.845000000."""
    text = next((text for name, text in stream.metadata.items() if name.startswith("DURATION")), "")
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _cut_factor(stream: AudioStream, head: bytes, size: int) -> float:
    """Return how much more samples a WAV file's header states than are in the file.

    FFmpeg derives the duration of PCM from the bytes in the file; other codecs state their samples.
    """
    at = head.find(b"data")
    if at < 0 or not stream.codec_context.name.startswith("pcm_"):
        return 1.0
    stated, there = int.from_bytes(head[at + 4 : at + 8], "little"), size - at - 8
    return stated / there if there < stated < UNKNOWN_BYTES and there > 0 else 1.0


def ends_before_others(container: av.container.InputContainer, reached_s: float) -> bool:
    """Return whether other streams go on after the audio's end, which is then not that of a cut file.

    Seeks in the container, which cannot be decoded afterwards. reached_s: the container's time in seconds.
    """
    for stream in container.streams:
        stream.discard = Discard.default
    try:
        container.seek(max(0, int((reached_s - INTERLEAVE_S) * av.time_base)))
        for packet in container.demux(
            *(s for s in container.streams if s.type in ("audio", "video", "subtitle"))
        ):
            if packet.pts is not None and packet.time_base is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                if end_s > reached_s + INTERLEAVE_S:
                    return True
    except (av.error.FFmpegError, IndexError):  # IndexError: see Frames
        return False
    return False
