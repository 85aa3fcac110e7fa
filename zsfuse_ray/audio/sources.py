"""Opening recordings by URI: local paths, file://, s3://, gs://, http(s):// and hf://."""

import io
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, TypeVar, cast

import aiohttp

from zsfuse_ray.audio.demo import demo_wav, is_demo
from zsfuse_ray.audio.redirects import RedirectError, trace_configs
from zsfuse_ray.errors import disk_problem, redact
from zsfuse_ray.stores import audio_filesystem, local_path

BLOCK_BYTES = 1 << 20  # per remote read; s3fs would read 50 MiB for a header
MAX_COPY_BYTES = 2 << 30  # from servers without range requests
RETRY_WAITS_S = (0.5, 1.0, 2.0)
RETRY_WITHIN_S = 60.0  # what failed only after this long is not tried again: its caller has a deadline
# Limits for a server that sends, but hardly anything: seconds for one block, and bytes per second of a copy.
BLOCK_TIMEOUT_S = 120.0
SLOWEST_COPY, SLOWEST_AFTER_S = 4096, 60.0

_DENIED = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}
_NETWORK = {"aiohttp", "aiobotocore", "botocore", "fsspec", "httpcore", "httpx", "httpx2", "huggingface_hub"}

AWAY_S = 30.0
_AWAY: dict[str, float] = {}  # when a host or bucket could last not be connected to

T = TypeVar("T")


class AudioError(Exception):
    """A recording that cannot be read: `reason` is a snake_case word, the message one line."""

    def __init__(self, reason: str, message: str):
        line = " ".join(redact(message).split())
        self.reason = reason
        self.message = line if len(line) <= 300 else line[:299] + "…"
        super().__init__(reason, self.message)  # both, so that the error survives pickling

    def __str__(self) -> str:
        return self.message


class SourceError(AudioError):
    """A recording that cannot be fetched.

    The reason is not_found, denied, not_allowed, unreachable, timeout or too_large.
    """


@contextmanager
def open_audio(uri: str) -> Iterator[BinaryIO]:
    """Open a recording as a seekable binary file; `demo:N` is the N-th synthetic one.

    Remote reads are retried with backoff when the connection drops or the store throttles. Raises
    SourceError, here or from a later read.
    """
    if is_demo(uri):
        file: Any = io.BytesIO(demo_wav(int(uri.removeprefix("demo:"))))
    elif "://" in uri and not uri.startswith("file://"):
        file = _RemoteFile(uri)
    else:
        file = _open_local(uri)
    with file:
        yield cast(BinaryIO, file)


_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _open_local(uri: str) -> IO[bytes]:
    path = uri.removeprefix("file://")
    if path != uri:
        path = local_path(uri)
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind == stat.S_IFDIR:
            raise _of_folder(uri, path)
        if kind != stat.S_IFREG:  # opening one may wait for ever, or do something
            raise SourceError("not_a_file", f"{_KINDS.get(kind, 'something')}, not a file: {uri}")
        return io.BufferedReader(_LocalFile(path), BLOCK_BYTES >> 4)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError("not_found", f"no such file: {uri}") from None
    except PermissionError:
        raise SourceError("denied", f"no permission to read {uri}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise SourceError("unreachable", f"{uri}: {error}") from None


def _of_folder(uri: str, path: str) -> SourceError:
    """Why a folder is no recording; one with a slash at its end could not be listed."""
    if not uri.endswith("/"):
        return SourceError("not_found", f"a folder, not a file: {uri}")
    try:
        os.scandir(path).close()
    except PermissionError:
        return SourceError("denied", f"no permission to list the folder {uri}")
    except OSError as error:
        return SourceError("unreachable", f"cannot list the folder {uri}: {error.strerror}")
    return SourceError("unreachable", f"could not list the folder {uri} at first; run again to list it")


def _without_waiting(path: str, flags: int) -> int:
    """A file may have become a FIFO since its kind was looked at."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _Wrapped(io.RawIOBase):
    """A file around `_file`; a subclass opens that and reads."""

    _file: Any

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()


class _LocalFile(_Wrapped):
    """A file whose failing reads (a bad sector, a stale mount) are a SourceError."""

    def __init__(self, path: str):
        super().__init__()
        self._file: Any = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115

    def readinto(self, buffer: Any) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            raise SourceError("unreachable", f"cannot read {self._file.name}: {error}") from None


class _RemoteFile(_Wrapped):
    """An fsspec file whose reads are retried; a local copy if the server does not support range requests."""

    def __init__(self, uri: str):
        super().__init__()
        self._uri = uri
        self._file: Any = _retried(self._open, uri)

    def _open(self) -> IO[bytes]:
        file = self._stream(BLOCK_BYTES, BLOCK_TIMEOUT_S)
        return self._copy(file) if getattr(file, "size", None) is None else file

    def _stream(self, block: int, timeout_s: float | None) -> IO[bytes]:
        """The object as fsspec opens it; block 0: only to be read once, from its start to its end."""
        is_http = self._uri.startswith(("http://", "https://"))
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=15, sock_read=60)
        # a redirection may lead to a signed address
        client: dict[str, Any] = {"timeout": timeout, "requote_redirect_url": False}
        if traces := trace_configs():
            client["trace_configs"] = traces
        options = {"client_kwargs": client} if is_http else {}
        fs, path = audio_filesystem(self._uri, **options)
        return fs.open(path, "rb", block_size=block)

    def _copy(self, file: IO[bytes]) -> IO[bytes]:
        """A local copy instead of a file in which one cannot seek."""
        file.close()
        return _copied(self._stream(0, None), self._uri)

    def _read(self, size: int) -> bytes:
        position = self._file.tell()
        try:
            return self._file.read(size)
        except ValueError as error:
            if "range requests" not in str(error):
                raise
        self._file = self._copy(self._file)
        self._file.seek(position)
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        data = _retried(lambda: self._read(len(buffer)), self._uri)
        buffer[: len(data)] = data
        return len(data)


def _copied(stream: IO[bytes], uri: str) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (returned open; it vanishes when closed)
    started = time.monotonic()
    with stream:
        while block := stream.read(BLOCK_BYTES):
            if copy.tell() + len(block) > MAX_COPY_BYTES:
                copy.close()
                limit = MAX_COPY_BYTES >> 30
                raise SourceError("too_large", f"over {limit} GiB on a server without range requests: {uri}")
            copy.write(block)
            took_s = time.monotonic() - started
            if took_s > SLOWEST_AFTER_S and copy.tell() < SLOWEST_COPY * took_s:
                copy.close()
                raise SourceError("timeout", f"under {SLOWEST_COPY} bytes per second: {uri}")
    copy.seek(0)
    return copy


def _retried(call: Callable[[], T], uri: str) -> T:
    started, host = time.monotonic(), "/".join(uri.split("/")[:3])
    is_away = started - _AWAY.get(host, -AWAY_S) < AWAY_S  # an earlier row has waited for it
    for wait in (None,) if is_away else (*RETRY_WAITS_S, None):
        try:
            result = call()
            _AWAY.pop(host, None)
            return result
        except AudioError:
            raise
        except Exception as error:
            if disk_problem(error) is not None:  # of this machine: a full temporary folder
                raise
            failure, passing = _explain(error, uri)
            if wait is None or not passing or time.monotonic() - started > RETRY_WITHIN_S:
                if passing and _is_unconnected(error):
                    _AWAY[host] = time.monotonic()
                raise failure from None  # the cause's text may hold a signed URL
        time.sleep(wait)
    raise AssertionError("unreachable: the last round returns or raises")


def _is_unconnected(error: BaseException) -> bool:
    """Whether there was no connection to a host at all."""
    while error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError | socket.gaierror)


def _explain(error: Exception, uri: str) -> tuple[SourceError, bool]:
    """Return the error for the user and whether it may be transient."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    root = chain[-1]  # fsspec reports any failure of an HTTP server as FileNotFoundError
    response = getattr(root, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(root, "status", None) or getattr(response, "status_code", None)
    name = type(root).__name__
    detail = redact(str(root), uri)
    if isinstance(root, RedirectError):
        return SourceError("not_allowed", f"{uri} {detail}"), False
    if status in (401, 403) or isinstance(root, PermissionError) or name in _DENIED:
        if uri.startswith(("http://", "https://")):
            why = "its signature may have expired, or it may need a login"
            return SourceError(
                "denied", f"the server refuses the link (HTTP status {status}; {why}): {uri}"
            ), False
        return SourceError("denied", f"access denied, check the credentials: {uri} ({detail})"), False
    if status in (404, 410) or (status is None and isinstance(root, (FileNotFoundError, IsADirectoryError))):
        return SourceError("not_found", f"no such object: {uri}"), False
    of_network = any(
        isinstance(e, OSError) or type(e).__module__.partition(".")[0] in _NETWORK for e in chain
    )
    of_client = any(isinstance(e, aiohttp.ClientError) for e in chain)  # no connection, or no byte at all
    if any(isinstance(e, TimeoutError) for e in chain) and not of_client:
        slow = f"its server takes over {BLOCK_TIMEOUT_S:g} s for {BLOCK_BYTES} bytes"
        return SourceError("timeout", f"{slow}: {uri}"), False
    detail = f"HTTP status {status}" if status else f"{name}: {detail}"
    if status is None:
        passing = of_network and not isinstance(root, ValueError)  # ValueError: not an address at all
    else:
        passing = status in (408, 425, 429) or status >= 500
    return SourceError("unreachable", f"cannot read {uri} ({detail})"), passing
