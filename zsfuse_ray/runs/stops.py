"""What stops a run from outside, in one line: a full disk, an unreachable store, a lost cluster."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import ray.exceptions

from zsfuse_ray.errors import InputError, RunError, Stopped, disk_problem, redact

# A line of the traceback of a task: an error of a disk, a store or the network.
_OUTSIDE = re.compile(
    r"^[\w.]*(?:OSError|SourceError|Outage|PermissionError|FileNotFoundError|TimeoutError|Connection\w*Error)"
    r"(?:\(\w+\))?: (.+)",
    re.MULTILINE,
)


@contextmanager
def one_line_stops(uri: str) -> Iterator[None]:
    """Raise what stops the run that writes to this output as Stopped; an InputError of a task as itself."""
    try:
        yield
    except (ray.exceptions.RayError, OSError) as error:
        raise stop(error, uri) from None


def stop(error: BaseException, uri: str) -> InputError | RunError:
    """The error to report. A task's other errors are bugs, of which Ray's whole message is kept."""
    if isinstance(cause := getattr(error, "cause", None), InputError):
        return cause
    text = redact(str(error))
    if (way := disk_problem(error)) is not None:
        return Stopped(f"{uri}: {way}")
    if isinstance(error, ray.exceptions.RayError) and (outside := _OUTSIDE.findall(text)):
        return Stopped(outside[-1].strip())
    if isinstance(error, ray.exceptions.RayTaskError):
        return Stopped(f"{text.rstrip()}\nerror: a task failed")
    if isinstance(error, ray.exceptions.RayError):
        return Stopped(f"Ray lost a process or machine of the run: {' '.join(text.split())[:300]}")
    return Stopped(f"{uri}: {' '.join(text.split())[:300]}")
