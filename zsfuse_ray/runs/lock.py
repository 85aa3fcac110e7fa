"""One run at a time writes to an output: a lock that a crash does not leave behind.

On a disk it is the kernel's lock on a file, which ends with the process. An object store has none: there each
run keeps an object of its own and refreshes it while it lives.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import LOCK, Output
from zsfuse_ray.runs.stops import one_line_stops

log = logging.getLogger(__name__)

REFRESH_S, LAPSE_S = 10.0, 35.0  # an object older than LAPSE_S by the store's clock is that of a dead run
WITHDRAW_S = 10.0  # within which the later one of two runs that start at the same moment withdraws
LOOK_S = 0.5
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # from a disk without locks, such as some of Lustre
P = ParamSpec("P")
T = TypeVar("T")


def holds_output(verb: Callable[P, T]) -> Callable[P, T]:
    """Decorate a verb whose first argument has an `output`: lock it, and report in one line what stops it."""

    @wraps(verb)
    def held(*arguments: P.args, **options: P.kwargs) -> T:
        config: Any = arguments[0]
        if not config.output:  # a benchmark may only print
            return verb(*arguments, **options)
        out = Output.open(config.output)
        with one_line_stops(out.uri), locked(out):
            return verb(*arguments, **options)

    return held


@contextmanager
def locked(out: Output) -> Iterator[None]:
    """Hold the lock of an output. InputError if another run holds it, or if nothing can be written there."""
    if not isinstance(out.fs, pafs.LocalFileSystem):
        with _object_lock(out):
            yield
        return
    folder, path = Path(out.root), Path(out.path(LOCK))
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        file = _lock_file(out, path)
        try:
            with _object_lock(out) if file is None else nullcontext():
                yield
        finally:
            if file is not None:
                path.unlink(missing_ok=True)  # while it is locked, so that nobody else holds it
                os.close(file)
    finally:
        with suppress(OSError):  # folders with something in them stay
            for one in made:
                one.rmdir()


def _lock_file(out: Output, path: Path) -> int | None:
    """The descriptor of the locked file, None if the disk has no locks."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(f"--output {out.uri}: cannot write there: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.fstat(file).st_ino == path.stat().st_ino:
                    with suppress(OSError):  # only a message needs the content
                        os.truncate(file, 0)
                        os.write(file, _content(_me()))
                    return file
            os.close(file)  # its holder has deleted it in the meantime
        except BlockingIOError:
            other = _parsed(os.pread(file, 1000, 0))
            os.close(file)
            raise _taken(out, other) from None
        except OSError as error:
            os.close(file)
            if error.errno not in NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            return None


@contextmanager
def _object_lock(out: Output) -> Iterator[None]:
    name, content = f"{LOCK}-{time.time_ns():020}-{uuid.uuid4().hex[:8]}", _content(_me())
    ended = threading.Event()

    def refresh() -> None:
        with out.fs.open_output_stream(out.path(name)) as file:
            file.write(content)

    def keep_fresh() -> None:
        while not ended.wait(REFRESH_S):
            with suppress(OSError):  # an outage of the store, which the run itself meets and reports
                refresh()

    try:
        refresh()
    except OSError as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(f"--output {out.uri}: cannot write there: {why}") from None
    thread = threading.Thread(target=keep_fresh, daemon=True)
    try:
        _wait_for_others(out, name, refresh)
        thread.start()
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()
        with suppress(OSError):  # it lapses
            out.delete(name)


def _wait_for_others(out: Output, name: str, refresh: Callable[[], None]) -> None:
    """Return when this run's object is the only one of a living run; InputError if another run lives.

    Each run writes its object before it lists, so that one of two runs sees the other at least. A run
    that was killed on another machine no longer refreshes its object.
    """
    started, written, told = time.monotonic(), {}, False
    while True:
        objects = {file.base_name: file for file in out.fs.get_file_info(pafs.FileSelector(out.root))}
        now = objects[name].mtime_ns  # the store's clock
        waits = False
        for other in sorted(key for key in objects if key.startswith(f"{LOCK}-") and key != name):
            owner = _owner(out, other)
            alive = _lives(owner)
            if alive is False or now - objects[other].mtime_ns > LAPSE_S * 1e9:
                with suppress(OSError):
                    out.delete(other)
                continue
            alive = alive or written.setdefault(other, objects[other].mtime_ns) != objects[other].mtime_ns
            if alive and (other < name or time.monotonic() - started > WITHDRAW_S):
                raise _taken(out, owner)
            waits = True
        if not waits:
            return
        if not told:
            log.info(f"waiting up to {LAPSE_S:.0f} s for the lock of a run that may have been killed")
            told = True
        time.sleep(LOOK_S)
        refresh()


def _me() -> dict[str, Any]:
    """This process, as no other one on any machine."""
    process = psutil.Process()
    space = Path("/proc/self/ns/pid")
    where = [psutil.boot_time(), os.readlink(space) if space.exists() else ""]
    return {"host": socket.gethostname(), "pid": process.pid, "since": process.create_time(), "where": where}


def _lives(owner: dict[str, Any]) -> bool | None:
    """Whether a process lives; None if it is one of another machine or unknown."""
    mine = _me()
    if any(owner.get(name) != mine[name] for name in ("host", "where")):
        return None
    try:
        return psutil.Process(owner["pid"]).create_time() == owner["since"]
    except psutil.NoSuchProcess:
        return False


def _owner(out: Output, name: str) -> dict[str, Any]:
    try:
        return _parsed(out.read_bytes(out.path(name)))
    except FileNotFoundError:  # withdrawn in the meantime
        return {}


def _content(owner: dict[str, Any]) -> bytes:
    return json.dumps(owner).encode()


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        return json.loads(content)
    except ValueError:  # its owner has not written it yet
        return {}


def _taken(out: Output, owner: dict[str, Any]) -> InputError:
    who = f" (process {owner['pid']} on {owner['host']})" if owner else ""
    return InputError(f"--output {out.uri}: another run{who} is writing there; wait for it, or use another")
