"""Open a file's audio stream and read its duration, with limits on the cost of untrusted files."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, BinaryIO

import av
import av.codec
import av.container
import av.error
from av.audio.stream import AudioStream
from av.stream import Discard, Disposition

from zsfuse_ray.audio.boxes import stated_samples
from zsfuse_ray.audio.durations import Stated, clock_zero, stated_end
from zsfuse_ray.audio.sources import AudioError, SourceError

MAX_CHANNELS = 64
MIN_SAMPLE_RATE = 2_000  # no speech is intelligible below
MAX_SAMPLE_RATE = 768_000

# Allowed containers. Others are rejected: playlists and session descriptions make FFmpeg open files, sockets.
_FORMATS = (
    "aa,aac,ac3,adx,aiff,amr,amrnb,amrwb,ape,asf,asf_o,ast,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,g722,gsm,iff,"
    "ilbc,loas,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,qcp,rm,shn,sox,tak,"
    "truehd,tta,voc,vqf,w64,wav,wsd,wtv,wv,xwma"
)
_ENCRYPTED_TAGS = {"enca", "drms", "aavd"}
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b"#!AMR", b"MPCK", b"MP+")
_MAGIC += (b"MAC ", b"wvpk", b"tBaK", b"DSD ", b"ADIF", b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11")


class DecodeError(AudioError):
    """A recording that can be fetched but not decoded.

    `reason`: empty, not_audio, corrupt, no_audio_stream, drm, unsupported, too_many_channels or timeout.
    """


class _Input:
    """The file object that FFmpeg reads.

    After an error or past the deadline it returns end of file, which stops FFmpeg (an exception would have to
    propagate through C); `check` then raises the error.
    """

    def __init__(self, file: BinaryIO, uri: str, deadline: float):
        suffix = os.path.splitext(uri.partition("?")[0])[1]
        self.name = "audio" + (suffix if suffix.isascii() else "")  # FFmpeg needs only the suffix
        self._file = file
        self._uri = uri
        self._deadline = deadline
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise the error of an earlier read, or DecodeError past the deadline."""
        if self._error is not None:
            raise self._error
        if time.monotonic() > self._deadline:
            raise DecodeError("timeout", f"decoding timed out: {self._uri}")

    def read(self, size: int) -> bytes:
        try:
            self.check()
            return self._file.read(size)
        except OSError as error:
            self._error = SourceError("unreachable", f"cannot read {self._uri}: {error}")
        except Exception as error:
            self._error = error
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError:
            return -1  # FFmpeg may try negative positions

    def tell(self) -> int:
        return self._file.tell()


@dataclass(frozen=True)
class Source:
    """An opened container, the selected audio stream, and where its audio ends according to the header.

    zero_s: the container's time at which the recording's clock starts, None: at the first sample.
    """

    uri: str
    container: av.container.InputContainer
    stream: AudioStream
    file: _Input
    size: int
    zero_s: Fraction | None
    stated: Stated | None

    @property
    def stated_s(self) -> float | None:
        """The stated end of the audio, in seconds of the recording's clock."""
        return self.stated.end_s if self.stated else None

    def check(self) -> None:
        """Raise the error of an earlier read, or DecodeError past the deadline."""
        self.file.check()


@contextmanager
def open_source(file: BinaryIO, uri: str, deadline: float) -> Iterator[Source]:
    """Open a binary file's audio stream; `deadline` is a time.monotonic() value. Raises AudioError."""
    head, size = _head(file)
    joined = head.startswith(b"OggS") and _last_serial(file, size) != head[14:18]
    if size == 0:
        raise DecodeError("empty", f"the file is empty: {uri}")
    if (samples := stated_samples(file, size)) is not None:
        raise DecodeError("corrupt", f"its header states {samples} samples in {size} bytes: {uri}")
    file.seek(0)
    reader = _Input(file, uri, deadline)
    try:
        container = av.open(
            reader,
            mode="r",
            container_options={"format_whitelist": _FORMATS, "codec_whitelist": _audio_decoders()},
            metadata_errors="replace",
            io_open=_refuse,
        )
    except (av.error.FFmpegError, OSError) as error:
        reader.check()
        mpeg_sync = head[0] == 0xFF and head[1:2] >= b"\xe0"
        if head.startswith(_MAGIC) or head[4:8] == b"ftyp" or mpeg_sync:
            raise DecodeError("corrupt", f"{_description(error)}: {uri}") from None
        raise DecodeError("not_audio", f"not a known audio format: {uri}") from None
    with container:
        reader.check()
        stream = _choose(container, uri)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        zero_s = clock_zero(container)
        stated = None if joined else stated_end(container, stream, zero_s, head, size)
        yield Source(uri, container, stream, reader, size, zero_s, stated)


def _refuse(url: str, flags: int, options: dict[str, Any]) -> BinaryIO:
    raise PermissionError("a recording may not open other files")


@lru_cache(maxsize=1)
def _audio_decoders() -> str:
    """Return FFmpeg's list of audio decoders: a cover of a few kB may decode to gigabytes of pixels."""
    names = []
    for name in sorted(av.codec.codecs_available):
        try:
            if av.Codec(name, "r").type == "audio":
                names.append(name)
        except ValueError:  # only an encoder
            continue
    return ",".join(names)


def _head(file: BinaryIO) -> tuple[bytes, int]:
    """Return the file's first 16 bytes plus the 4 KiB after them or after an ID3 tag, and the file's size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    if head.startswith(b"ID3") and len(head) >= 10:
        file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
    head += file.read(4096)
    file.seek(0)
    return head, size


def _last_serial(file: BinaryIO, size: int) -> bytes:
    """Return the serial number of an Ogg file's last page; it differs from the first's in joined files."""
    file.seek(max(0, size - (64 << 10)))
    tail = file.read()
    file.seek(0)
    page = tail.rfind(b"OggS")
    return tail[page + 14 : page + 18]


def _choose(container: av.container.InputContainer, uri: str) -> AudioStream:
    """Return the default audio stream, else the first."""
    streams = container.streams.audio
    if not streams:
        raise DecodeError("no_audio_stream", f"no audio stream in {container.format.name}: {uri}")
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
    """Raise DecodeError for a channel count or sample rate beyond any real recording."""
    if channels > MAX_CHANNELS:
        raise DecodeError("too_many_channels", f"{channels} channels, the maximum is {MAX_CHANNELS}: {uri}")
    if sample_rate > MAX_SAMPLE_RATE:
        raise DecodeError("unsupported", f"{sample_rate} Hz, the maximum is {MAX_SAMPLE_RATE}: {uri}")
    if 0 < sample_rate < MIN_SAMPLE_RATE:
        raise DecodeError("unsupported", f"{sample_rate} Hz, the minimum is {MIN_SAMPLE_RATE}: {uri}")


def _description(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
