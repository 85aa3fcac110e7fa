"""The filesystem of a URI: the same rules for recordings, tables and checkpoints."""

import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError, redact

T = TypeVar("T")

STORES = ("s3", "gs")  # object stores: read and written
READ_ONLY = ("http", "https", "hf")
# Limits of a request's retries in seconds; pyarrow's own is 15 minutes, also without any credentials.
_READ_RETRIES_S = 5  # reads are retried here as well
_TABLE_RETRIES_S = 60
_TABLE_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_OVERLOADED = re.compile(
    r"INTERNAL_FAILURE|SLOW_DOWN|SERVICE_UNAVAILABLE|NETWORK_CONNECTION|REQUEST_TIMEOUT|THROTTLING|UNAVAILABLE"
    r"|HTTP status 5\d\d|response stream"
)
_GCS_EMULATOR = "CLOUD_STORAGE_EMULATOR_ENDPOINT"  # as in Google's client; an emulator needs no credentials


def check_scheme(uri: str, is_stored: bool = False) -> str:
    """Return the URI; InputError for a scheme that cannot be read, or with is_stored cannot hold tables."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    scheme = match[1] if match else "file"
    known = STORES if is_stored else STORES + READ_ONLY
    # fsspec's chains of two places; a name may contain "::"
    is_chain = "://" in uri and bool(re.search(r"^[^/]*::|::[A-Za-z][A-Za-z0-9+.-]*://", uri))
    if scheme not in (*known, "file") or is_chain:
        names = ", ".join(f"{name}://" for name in known)
        problem = f"{scheme}:// is not supported here" if is_stored else f"cannot read {scheme}://"
        raise InputError(f"{redact(uri)}: {problem} (a path, or {names})")
    return uri


def in_object_store(uri: str) -> bool:
    """Whether a URI is in an object store."""
    return uri.startswith(tuple(f"{name}://" for name in STORES))


def table_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem for tables and checkpoints, and the path in it.

    InputError for a scheme that cannot hold tables; OSError or ArrowException from the store.
    """
    if "://" not in check_scheme(uri, is_stored=True):
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    if uri.startswith("gs://"):
        return _gcs(_TABLE_RETRIES_S), uri.removeprefix("gs://")
    return pafs.FileSystem.from_uri(uri)


def audio_filesystem(uri: str, **options: Any) -> tuple[Any, str]:
    """Return the filesystem for recordings and labels, which are read in parts, and the path in it.

    options: arguments of an HTTP filesystem.
    """
    if uri.startswith("gs://"):
        return _ArrowStore(_gcs(_READ_RETRIES_S)), uri.removeprefix("gs://")
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    fs = fsspec.filesystem(scheme, **options)  # not url_to_fs, which splits names at "::"
    return fs, fs._strip_protocol(uri)


def retried(call: Callable[[], T], fs: pafs.FileSystem) -> T:
    """The result of one whole read or write of a table in a store, tried again while the store is overloaded.

    pyarrow does not try a read again whose error message does not fit into the bytes that were asked for.
    """
    for wait in (*_TABLE_WAITS_S, None):
        try:
            return call()
        except (OSError, pa.ArrowException) as error:
            if wait is None or isinstance(fs, pafs.LocalFileSystem) or not _OVERLOADED.search(str(error)):
                raise
        time.sleep(wait)
    raise AssertionError("unreachable: the last round returns or raises")


class _ArrowStore(ArrowFSWrapper):
    """A pyarrow store for fsspec; its listing also finds files in folders without a marker object."""

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any) -> Any:
        found = {}
        for info in self.fs.get_file_info(pafs.FileSelector(path, allow_not_found=True, recursive=True)):
            is_file = info.type == pafs.FileType.File
            depth = info.path.removeprefix(path).strip("/").count("/") + 1
            if (is_file or withdirs) and (maxdepth is None or depth <= maxdepth):
                kind = "file" if is_file else "directory"
                found[info.path] = {"name": info.path, "size": info.size, "type": kind, "mtime": info.mtime}
        return found if kwargs.get("detail") else list(found)


@cache
def _gcs(retries_s: int) -> pafs.FileSystem:
    is_open = _GCS_EMULATOR in os.environ
    return pafs.GcsFileSystem(anonymous=is_open, retry_time_limit=timedelta(seconds=retries_s))
