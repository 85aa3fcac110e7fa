"""Files that crash, stall or exhaust the process that reads them cost only themselves."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.audio.sounds import chirp, write
from zsfuse_ray.audio import decode as in_process
from zsfuse_ray.audio import isolated
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.sources import SourceError

# Python runs a module of this name at every start: opening some files is then a crash, or a leak.
SITE = """
import builtins, os, signal, time
harmless = builtins.open
def deadly(path, *arguments, **options):
    if str(path).endswith("deadly.wav"):
        with harmless(path + ".tries", "a") as tries:
            tries.write("x")
        os.kill(os.getpid(), signal.SIGSEGV)
    if str(path).endswith("endless.wav"):
        time.sleep(1000)
    if str(path).endswith("greedy.wav"):
        bytearray(8 << 30)
    return harmless(path, *arguments, **options)
builtins.open = deadly
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory):
    """A child that deadly.wav crashes, for which endless.wav never ends and greedy.wav takes 8 GiB."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(SITE)
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(site))
    patch.setattr(isolated, "_CHILD", isolated._Child())
    yield isolated._CHILD
    isolated._CHILD._end()
    patch.undo()


@pytest.fixture
def good(tmp_path: Path) -> str:
    return str(write(tmp_path / "gööd.wav", "pcm_s16le", chirp(3)))


def works(good: str) -> bool:
    expected, found = in_process.decode(good, 1, 2), isolated.decode(good, 1, 2)
    np.testing.assert_array_equal(found.samples, expected.samples)
    return isolated.probe(good) == in_process.probe(good)


def test_the_same_child_answers_all_calls(child, good: str, tmp_path: Path) -> None:
    assert works(good)
    process = child._process
    (tmp_path / "notes.wav").write_text("To whom it may concern")
    for path, error, reason in [
        ("none.wav", SourceError, "not_found"),
        ("notes.wav", DecodeError, "not_audio"),
    ]:
        with pytest.raises(error) as caught:
            isolated.probe(str(tmp_path / path))
        assert caught.value.reason == reason
    assert works(good)
    assert child._process is process


def test_a_crash_is_an_error_of_the_file_after_some_attempts(child, good: str, tmp_path: Path) -> None:
    deadly = tmp_path / "deadly.wav"
    deadly.write_bytes(Path(good).read_bytes())
    with pytest.raises(DecodeError, match="SIGSEGV") as caught:
        isolated.probe(str(deadly))
    assert caught.value.reason == "crashed"
    assert (tmp_path / "deadly.wav.tries").read_text() == "x" * isolated.CRASHES
    assert works(good)


def test_memory_is_limited(child, good: str, tmp_path: Path) -> None:
    greedy = tmp_path / "greedy.wav"
    greedy.write_bytes(Path(good).read_bytes())
    for read in (isolated.probe, isolated.decode):
        with pytest.raises(DecodeError) as caught:
            read(str(greedy))
        assert caught.value.reason == "out_of_memory"
    assert works(good)


def test_a_read_that_never_ends_is_a_timeout(child, good: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(isolated, "GRACE_S", 0.2)
    (tmp_path / "endless.wav").write_bytes(Path(good).read_bytes())
    started = time.monotonic()
    with pytest.raises(DecodeError) as caught:
        isolated.decode(str(tmp_path / "endless.wav"), timeout_s=0.5)
    assert caught.value.reason == "timeout"
    assert time.monotonic() - started < 5
    monkeypatch.undo()
    assert works(good)


def test_an_interrupted_call_does_not_answer_the_next(child, good: str, tmp_path: Path) -> None:
    (tmp_path / "endless.wav").write_bytes(Path(good).read_bytes())

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            isolated.probe(str(tmp_path / "endless.wav"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert works(good)


def test_a_child_that_was_killed_in_between_is_replaced(child, good: str) -> None:
    assert works(good)
    os.kill(child._process.pid, signal.SIGKILL)
    assert works(good)


def test_a_child_has_the_environment_of_the_call(child, good: str, monkeypatch) -> None:
    assert works(good)
    process = child._process
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "set later")
    assert works(good)
    assert b"set later" in Path(f"/proc/{child._process.pid}/environ").read_bytes()
    assert process.poll() is not None


def test_a_child_that_cannot_start_is_not_an_error_of_the_file(good: str, monkeypatch) -> None:
    monkeypatch.setattr(isolated, "_CHILD", isolated._Child())
    monkeypatch.setattr(isolated, "_MAIN", "import no_such_module")
    with pytest.raises(isolated.ChildError):
        isolated.probe(good)
