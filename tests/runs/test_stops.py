"""What stops a run from outside is one line and can be told from a bug."""

import errno

import pytest
import ray.exceptions

from zsfuse_ray.errors import InputError, RunError, Stopped
from zsfuse_ray.runs.stops import one_line_stops, stop

ROOM = "out: no space left on the disk; make room"
FULL = "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"


def of_task(cause: Exception, trace: str) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("write", trace, cause)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "full"), ROOM),
        (OSError(FULL), ROOM),
        (OSError(errno.EDQUOT, "x"), "out: the disk quota is used up; make room"),
        (OSError(errno.EROFS, "x"), "out: the disk has become read-only; make it writable"),
        (OSError(errno.ESTALE, "Stale file handle"), "out: [Errno 116] Stale file handle"),
        (OSError("AWS Error SLOW_DOWN during\nUploadPart"), "out: AWS Error SLOW_DOWN during UploadPart"),
        (of_task(OSError(FULL), f"Traceback\n  File\nOSError: {FULL}"), ROOM),
        (of_task(OSError("x"), "Traceback\nOSError: AWS Error X\n"), "AWS Error X"),
        (ray.exceptions.RayError("trace\nx.y.SourceError: s3://b/a.wav: lost\n"), "s3://b/a.wav: lost"),
        (
            ray.exceptions.RaySystemError("the raylet\ndied"),
            "Ray lost a process or machine of the run: System error: the raylet died",
        ),
    ],
)  # fmt: skip
def test_an_outage_is_one_line(error: Exception, line: str) -> None:
    with pytest.raises(Stopped) as caught, one_line_stops("out"):
        raise error
    assert str(caught.value) == line
    assert caught.value.__suppress_context__


def test_a_bug_in_a_task_keeps_its_traceback() -> None:
    found = stop(of_task(ValueError("a bug"), "Traceback\n  File x\nValueError: a bug"), "out")
    assert isinstance(found, RunError)
    assert "File x\nValueError: a bug" in str(found)
    assert str(found).endswith("\nerror: a task failed")


def test_secrets_are_removed() -> None:
    assert "hunter2" not in str(stop(ray.exceptions.RayError("at https://me:hunter2@h/a"), "out"))


def test_an_input_error_in_a_task_is_returned_unchanged() -> None:
    error = ray.exceptions.RayError("a trace")
    error.cause = InputError("--alm x: no")  # type: ignore[attr-defined]
    assert stop(error, "out") is error.cause  # type: ignore[attr-defined]


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="a bug"), one_line_stops("out"):
        raise ValueError("a bug")
