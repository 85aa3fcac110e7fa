"""From a file to its audio stream and duration, with bounds on what a stranger's file may cost."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import av.container
import av.error
from av.audio.stream import AudioStream
from av.stream import Discard, Disposition

from zsfuse_ray.audio.sources import AudioError, open_audio

MAX_CHANNELS = 64
MAX_SAMPLE_RATE = 768_000
COUNT_TIME_S = 120.0  # for a duration that only counting the packets can tell

# Formats without a duration in the file: what FFmpeg reports is file size over bit rate.
_ESTIMATED = {"aac", "ac3", "adx", "amr", "bit", "dts", "eac3", "g722", "gsm", "loas", "mlp", "mp3", "truehd"}
_NOT_AUDIO = {"image2", "tty", "txt", "ffmetadata", "hls", "concat", "dash", "sdp", "srt", "webvtt", "ass"}
_ENCRYPTED_TAGS = {"enca", "drms", "aavd"}
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b"#!AMR", b"MPCK", b"MP+")
_MAGIC += (b"MAC ", b"wvpk", b"tBaK", b"DSD ", b"ADIF", b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11")


class DecodeError(AudioError):
    """A recording that can be fetched but not decoded; `reason` is one of

    empty, not_audio, corrupt, no_audio_stream, drm, unsupported, too_many_channels, timeout.
    """


@dataclass(frozen=True)
class Probe:
    """What a recording is. `exact` is False where the duration is only an estimate."""

    duration_s: float
    sample_rate: int
    channels: int
    container: str
    codec: str
    exact: bool


class _Input:
    """The file as FFmpeg reads it.

    After an error or past the deadline it plays end of file, which ends whatever FFmpeg is doing (an
    exception would have to travel through C); `check` raises what happened.
    """

    def __init__(self, file: BinaryIO, uri: str, deadline: float):
        suffix = os.path.splitext(uri.partition("?")[0])[1]
        self.name = "audio" + (suffix if suffix.isascii() else "")  # FFmpeg needs no more of the name
        self._file = file
        self._uri = uri
        self._deadline = deadline
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise the error of an earlier read, or DecodeError past the deadline."""
        if self._error is not None:
            raise self._error
        if time.monotonic() > self._deadline:
            raise DecodeError("timeout", f"decoding takes too long: {self._uri}")

    def read(self, size: int) -> bytes:
        try:
            self.check()
            return self._file.read(size)
        except Exception as error:
            self._error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError:
            return -1  # FFmpeg may try places before the beginning

    def tell(self) -> int:
        return self._file.tell()


@dataclass(frozen=True)
class Source:
    """An opened container, the audio stream that counts, and the duration its header states (None: none)."""

    uri: str
    container: av.container.InputContainer
    stream: AudioStream
    file: _Input
    stated_s: float | None

    @property
    def audio_s(self) -> float | None:
        """The stated duration where it is the audio's own, not that of the video beside it."""
        return self.stated_s if self.stream.duration or not self.container.streams.video else None

    def check(self) -> None:
        """Raise the error of an earlier read, or DecodeError past the deadline."""
        self.file.check()


@contextmanager
def open_source(file: BinaryIO, uri: str, deadline: float) -> Iterator[Source]:
    """Open a binary file's audio stream; `deadline` is a time.monotonic(). Raises AudioError."""
    head, size = _head(file)
    if size == 0:
        raise DecodeError("empty", f"the file is empty: {uri}")
    reader = _Input(file, uri, deadline)
    try:
        container = av.open(reader, mode="r", metadata_errors="replace", io_open=_refuse)
    except (av.error.FFmpegError, OSError) as error:
        reader.check()
        mpeg_sync = head[0] == 0xFF and head[1:2] >= b"\xe0"
        if head.startswith(_MAGIC) or head[4:8] == b"ftyp" or mpeg_sync:
            raise DecodeError("corrupt", f"{_words(error)}: {uri}") from None
        raise DecodeError("not_audio", f"not a known audio format: {uri}") from None
    with container:
        reader.check()
        stream = _choose(container, uri)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        yield Source(uri, container, stream, reader, _stated_duration(container, stream, head))


def _refuse(url: str, flags: int, options: dict[str, Any]) -> BinaryIO:
    raise PermissionError("a recording may not open other files")


def _head(file: BinaryIO) -> tuple[bytes, int]:
    """Return the first 4 KiB behind an ID3 tag, led by the file's own first 16 bytes, and the file's size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    if head.startswith(b"ID3") and len(head) >= 10:
        file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
    head += file.read(4096)
    file.seek(0)
    return head, size


def _choose(container: av.container.InputContainer, uri: str) -> AudioStream:
    """Return the default audio stream, else the first."""
    streams = container.streams.audio
    if not streams:
        name = container.format.name
        if name.endswith("_pipe") or name in _NOT_AUDIO or not len(container.streams):
            raise DecodeError("not_audio", f"not audio but {name}: {uri}")
        raise DecodeError("no_audio_stream", f"no audio stream in {name}: {uri}")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise DecodeError("unsupported", f"no decoder for its audio: {uri}")
    stream = next((stream for stream in known if stream.disposition & Disposition.default), known[0])
    if _tag(stream) in _ENCRYPTED_TAGS:
        raise DecodeError("drm", f"the audio is encrypted: {uri}")
    check_layout(stream.codec_context.layout.nb_channels, stream.codec_context.sample_rate, uri)
    return stream


def _tag(stream: AudioStream) -> str:
    try:
        return stream.codec_context.codec_tag
    except UnicodeDecodeError:  # a damaged header
        return ""


def check_layout(channels: int, sample_rate: int, uri: str) -> None:
    """Raise DecodeError where a stream or one of its frames is larger than any real recording."""
    if channels > MAX_CHANNELS:
        raise DecodeError("too_many_channels", f"{channels} channels, at most {MAX_CHANNELS}: {uri}")
    if sample_rate > MAX_SAMPLE_RATE:
        raise DecodeError("unsupported", f"{sample_rate} Hz, at most {MAX_SAMPLE_RATE}: {uri}")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _stated_duration(
    container: av.container.InputContainer, stream: AudioStream, head: bytes
) -> float | None:
    """Return the duration in seconds where the header states it and it agrees with size and bit rate."""
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration:
        duration = container.duration / av.time_base
    else:
        return None
    name = container.format.name
    if name == "mp3" and any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
        # Joined files keep the first one's count of frames, which then disagrees with the size of the whole.
        stated_rate, whole_rate = stream.codec_context.bit_rate or 0, container.bit_rate
        return duration if abs(whole_rate - stated_rate) < 0.05 * stated_rate else None
    return None if name in _ESTIMATED or duration <= 0 else duration


def probe(uri: str, *, timeout_s: float = 600) -> Probe:
    """Return what a recording is, from its header where that tells the duration, else by counting packets.

    Raises DecodeError and SourceError.
    """
    deadline = time.monotonic() + timeout_s
    with open_audio(uri) as file, open_source(file, uri, deadline) as source:
        context = source.stream.codec_context
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
    """Return the duration by demuxing without decoding, and whether that came to the end."""
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
            # Times that jump back (joined streams) count on.
            end = max(packet.pts if packet.pts is not None else end, end) + (packet.duration or 0)
            if time.monotonic() > deadline:
                complete = False
                break
    except av.error.FFmpegError:
        source.check()  # a broken tail: what came before it counts
    counted = float((end - (start or 0)) * source.stream.time_base) if source.stream.time_base else 0.0
    if not complete and source.container.duration:
        return max(counted, source.container.duration / av.time_base), False
    return max(counted, 0.0), complete
