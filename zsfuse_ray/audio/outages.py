"""Tell the failure of one recording from that of its place: an unmounted folder, a store that is down."""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from zsfuse_ray.audio.manifest import is_manifest
from zsfuse_ray.audio.sources import AudioError, SourceError
from zsfuse_ray.stores import audio_filesystem, in_object_store

T = TypeVar("T")

# Failures that may end by themselves: a finished run that is started again tries these recordings again.
PASSING = ("not_found", "unreachable", "denied", "timeout", "crashed")
PATIENCE_S = (1.0, 2.0, 5.0, 10.0, 20.0)  # waits for a store that is silent, before a run stops
FOLDER_TIMEOUT_S = 30.0
HOST_TIMEOUT_S = 10.0
_OF_PLACE = ("not_found", "denied", "unreachable", "timeout")  # failures that may be those of the place
# Answers of a store that concern one bucket or object, such as a row of a manifest that may not be read.
_OF_OBJECT = {"AccessDenied", "AllAccessDisabled", "NoSuchBucket", "InvalidBucketName", "PermanentRedirect"}

State = Literal["answers", "refuses", "silent", "gone"]


class Outage(SourceError):
    """The place of a recording does not answer.

    This must stop a run, which can be resumed: as rejects, the remaining recordings would count as done.
    """


def archive_root(archive: str) -> str | None:
    """The folder or prefix that all recordings of an archive are in, None for a manifest or one file."""
    local = "://" not in archive or archive.startswith("file://")
    path = os.path.abspath(os.path.expanduser(archive.removeprefix("file://"))) if local else archive
    if (
        archive == "demo"
        or (is_manifest(archive) and not (local and os.path.isdir(path)))
        or (local and os.path.isfile(path))
    ):
        return None
    glob = min((at for at in map(path.find, "*?[") if at >= 0), default=None)
    is_glob = glob is not None and not (local and os.path.exists(path))
    return path[:glob].rpartition("/")[0] if is_glob else path


def unless_outage(read: Callable[[], T], uri: str, root: str | None, is_planned: bool = False) -> T:
    """The result of reading a recording; read again where its store or web host has been away for a while.

    root: that of `archive_root`. is_planned: its header has been read before; only then is a web host asked,
    as that of a new row may never have existed. Raises Outage if the place does not answer, else the
    recording's error.
    """
    try:
        return read()
    except AudioError as error:
        if error.reason not in _OF_PLACE:
            raise
        is_store = in_object_store(uri)
        if is_planned and uri.startswith(("http://", "https://")):
            if error.reason not in ("unreachable", "timeout"):
                raise
            is_store = True
        for wait in (*PATIENCE_S, None):
            state = _state(uri, root, is_planned)
            if state != "silent" or wait is None or not is_store:
                break
            time.sleep(wait)
        if is_store and error.reason == "not_found" and state != "gone":
            raise  # that an object is not there is an answer of its store
        if state != "answers":
            raise Outage(error.reason, f"{_place(uri, root)} {_WHAT[state]}: {error}") from None
        if not (is_store and error.reason == "unreachable"):
            raise
    return read()


def answers(root: str) -> bool:
    """Whether the root of an archive answers."""
    return _state(root, root) == "answers"


_WHAT = {"refuses": "refuses access", "silent": "does not answer", "gone": "is gone"}


def _place(uri: str, root: str | None) -> str:
    scheme, _, path = uri.partition("://")
    is_remote = in_object_store(uri) or scheme in ("http", "https")
    host = path.split("/")[0].rpartition("@")[2]
    return root or (f"{scheme}://{host}" if is_remote else "the folder of its files")


def _host_answers(uri: str) -> bool:
    """Whether something listens at the host and port of a web address."""
    parts = urlsplit(uri)
    try:
        where = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection(where, timeout=HOST_TIMEOUT_S).close()
    except ValueError:  # not an address: the row's own fault
        return True
    except OSError:
        return False
    return True


def _state(uri: str, root: str | None, is_planned: bool = False) -> State:
    """Whether the place of a recording answers; a web host is asked only if it has answered before."""
    if in_object_store(uri):
        return _state_of_store(uri, root)
    if is_planned and uri.startswith(("http://", "https://")):
        return "answers" if _host_answers(uri) else "silent"
    if ("://" in uri and not uri.startswith("file://")) or uri.startswith("demo:"):
        return "answers"
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(_folder_answers(uri, root)), daemon=True)
    asking.start()  # a dead mount would not let this thread go on
    asking.join(FOLDER_TIMEOUT_S)
    return "answers" if found and found[0] else "silent"


def _folder_answers(uri: str, root: str | None) -> bool:
    """Whether a folder is there with files in it: without its share, a mount point is an empty folder."""
    folder = root or os.path.dirname(os.path.abspath(uri.removeprefix("file://")))
    while not root and not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except PermissionError:
        return root is None
    except OSError:
        return False


def _state_of_store(uri: str, root: str | None) -> State:
    scheme = uri.partition("://")[0]
    is_own = root is not None and uri.startswith(root)
    bucket = uri.partition("://")[2].split("/")[0]
    try:
        fs, _ = audio_filesystem(f"{scheme}://{bucket}")
        if scheme == "s3":
            prefix = root.partition("://")[2].partition("/")[2] if root and is_own else ""
            fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        else:
            fs.fs.get_file_info(bucket)
        return "answers"
    except Exception as error:  # each store has its own errors
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        response: Any = getattr(cause, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if not is_own and (code in _OF_OBJECT or type(cause).__name__ == "ParamValidationError"):
            return "answers"
        if code == "NoSuchBucket":
            return "gone"
        is_refusal = isinstance(error, PermissionError | FileNotFoundError)
        return "refuses" if is_refusal or "Credential" in type(cause).__name__ else "silent"
