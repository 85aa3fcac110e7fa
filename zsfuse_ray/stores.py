"""The filesystem of a URI: the same rules for recordings, tables and checkpoints."""

import os
import re
import string
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes, urlsplit

import fsspec
import pyarrow as pa
from fsspec import get_filesystem_class
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError, redact, redact_uri

T = TypeVar("T")

STORES = ("s3", "gs")  # object stores: read and written
READ_ONLY = ("http", "https", "hf")
_S3_OPTIONS = frozenset((
    "region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion",
    "allow_delayed_open", "tls_ca_file_path", "smart_defaults",
))  # fmt: skip
# Limits of a request's retries in seconds; pyarrow's own is 15 minutes, also without any credentials.
_IN_ADDRESSES = "".join(sorted(set(string.punctuation) - set('"<>')))
_READ_RETRIES_S = 5  # reads are retried here as well
_TABLE_RETRIES_S = 60
_TABLE_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_OVERLOADED = re.compile(
    r"INTERNAL_FAILURE|SLOW_DOWN|SERVICE_UNAVAILABLE|NETWORK_CONNECTION|REQUEST_TIMEOUT|THROTTLING|UNAVAILABLE"
    r"|HTTP status 5\d\d|response stream"
)
_GCS_EMULATOR = "CLOUD_STORAGE_EMULATOR_ENDPOINT"  # as in Google's client; an emulator needs no credentials


def check_scheme(uri: str, is_stored: bool = False) -> str:
    """Return the URI; InputError for a scheme that cannot be read, or with is_stored cannot hold tables.

    InputError also for credentials in the name of a bucket.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    scheme = match[1] if match else "file"
    known = STORES if is_stored else STORES + READ_ONLY
    # fsspec's chains; names and keys may contain "::"
    is_chain = "://" in uri and re.search(r"^[^/]*::|::[A-Za-z][A-Za-z0-9+.-]*://", uri) is not None
    if scheme not in (*known, "file") or is_chain:
        names = ", ".join(f"{name}://" for name in known)
        problem = f"{scheme}:// is not supported here" if is_stored else f"cannot read {scheme}://"
        raise InputError(f"{redact(uri)}: {problem} (a path, or {names})")
    if scheme in STORES:
        bucket = uri.partition("://")[2].split("/")[0]
        if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):
            raise InputError(
                f"{redact_uri(uri)}: credentials in an address are not used; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or the variables of your store, in the environment"
            )
    return uri


def is_allowed(uri: str, allowed: Sequence[str]) -> bool:
    """Whether an address is of one of these schemes (https://, file://), hosts or buckets (s3://b, h.org)."""
    scheme, mark, rest = uri.partition("://")
    scheme, host = (scheme.lower(), urlsplit(uri).netloc.rpartition("@")[2].lower()) if mark else ("file", "")
    if scheme in STORES:
        host = rest.split("/")[0].lower()
    names = {f"{scheme}:", host, f"{scheme}://{host}"} - {""}
    return any(entry.lower().rstrip("/") in names for entry in allowed)


def url_path(uri: str) -> str:
    """A URI without the query and fragment of a web address; in other names ? and # are letters."""
    return re.split("[?#]", uri, maxsplit=1)[0] if uri.startswith(("http://", "https://")) else uri


def in_object_store(uri: str) -> bool:
    """Whether a URI is in an object store."""
    return uri.startswith(tuple(f"{name}://" for name in STORES))


def local_path(uri: str) -> str:
    """The absolute path of a local name. file:// is percent-encoded unless that very name exists."""
    path = uri.removeprefix("file://")
    if path != uri and not os.path.lexists(path):
        path = os.fsdecode(unquote_to_bytes(path))
    return os.path.abspath(os.path.expanduser(path))


def table_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem for tables and checkpoints, and the path in it; names are taken as they are.

    s3:// may end with options of pyarrow's filesystem, such as ?region=. InputError for a scheme that cannot
    hold tables; OSError or ArrowException from the store.
    """
    check_scheme(uri, is_stored=True)
    if uri.startswith("gs://"):
        return _gcs(_TABLE_RETRIES_S), uri.removeprefix("gs://")
    if not uri.startswith("s3://"):
        return pafs.LocalFileSystem(), local_path(uri)
    name, mark, query = uri.removeprefix("s3://").rpartition("?")
    if not mark or not all(part.partition("=")[0] in _S3_OPTIONS for part in query.split("&")):
        name, query = uri.removeprefix("s3://"), ""  # a letter of the name
    bucket = name.split("/")[0]
    fs, _ = pafs.FileSystem.from_uri(f"s3://{bucket}?{query}" if query else f"s3://{bucket}")
    return fs, name


def audio_filesystem(uri: str, **options: Any) -> tuple[Any, str]:
    """Return the filesystem for recordings and labels, which are read in parts, and the path in it.

    Names are taken as they are. options: arguments of an HTTP filesystem.
    """
    scheme, mark, name = uri.partition("://")
    if scheme == "gs":
        return _ArrowStore(_gcs(_READ_RETRIES_S)), name
    if not mark or scheme == "file":
        return fsspec.filesystem("file"), local_path(uri)
    if scheme == "s3":
        of_uri = get_filesystem_class("s3")._get_kwargs_from_urls(uri)
        settings = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "FSSPEC_"))}
        return _s3(os.getpid(), *map(_pairs, (settings, of_uri))), name.rstrip("/")
    if scheme in ("http", "https"):
        return fsspec.filesystem(scheme, encoded=True, **options), web_address(uri)
    fs = fsspec.filesystem(scheme, **options)
    return fs, fs._strip_protocol(uri)


def web_address(uri: str) -> str:
    """An address as it is sent: only letters that no address may contain are encoded, as a browser does it.

    A signature is for the address as it was given, whatever else in it could be written differently.
    """
    scheme, _, rest = uri.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    rest = rest[len(authority) :]
    if not authority.isascii():
        authority = authority.encode("idna").decode()
    rest = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", rest)
    return f"{scheme}://{authority}{quote(rest, safe=_IN_ADDRESSES)}"


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


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


@lru_cache(maxsize=8)
def _s3(process: int, settings: tuple[tuple[str, str], ...], options: tuple[tuple[str, Any], ...]) -> Any:
    """s3fs for these settings of the environment; its own cache keeps those of its first use."""
    return fsspec.filesystem("s3", skip_instance_cache=True, **dict(options))


@cache
def _gcs(retries_s: int) -> pafs.FileSystem:
    is_open = _GCS_EMULATOR in os.environ
    return pafs.GcsFileSystem(anonymous=is_open, retry_time_limit=timedelta(seconds=retries_s))
