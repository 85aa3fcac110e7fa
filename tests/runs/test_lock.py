"""One run at a time; a crash leaves no lock. The object store is a folder behind another filesystem class."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs import lock as module
from zsfuse_ray.runs.folder import LOCK, Output
from zsfuse_ray.runs.lock import holds_output, locked

HOLDER = """
import sys, time
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import locked
with locked(Output.open(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["disk", "store"])
def out(tmp_path: Path, request: pytest.FixtureRequest) -> Output:
    if request.param == "disk":
        return Output.open(str(tmp_path / "new/out"))
    (tmp_path / "bucket").mkdir()
    return Output("s3://bucket", pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "bucket")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_second_run_is_refused_in_one_line_and_the_first_leaves_nothing(
    out: Output, tmp_path: Path
) -> None:
    before = names(tmp_path)
    with locked(out):
        with (
            pytest.raises(
                InputError, match=rf"another run \(process {os.getpid()} on .*\) is writing there"
            ) as no,
            locked(out),
        ):
            raise AssertionError("both hold it")
        assert "\n" not in str(no.value)
    assert names(tmp_path) == before
    with locked(out):
        out.write_bytes("a", b"")
    with pytest.raises(ZeroDivisionError), locked(out):
        1 / 0  # noqa: B018
    with locked(out):
        pass
    assert [name for name in names(tmp_path) if LOCK in name] == []
    assert out.exists("a")


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    out = Output.open(str(tmp_path / "out"))
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked(out):
        pass
    store = Output("s3://out", pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "out")
    owner = json.loads((tmp_path / "out" / LOCK).read_text())
    store.write_bytes(f"{LOCK}-{0:020}-dead", json.dumps(owner).encode())  # as this process would in a store
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked(store):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    for there in (out, store):
        started = time.monotonic()
        with locked(there):
            assert time.monotonic() - started < 2
    assert names(tmp_path) == ["out"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("REFRESH_S", 0.1), ("LAPSE_S", 1.0), ("WITHDRAW_S", 0.5), ("LOOK_S", 0.05)):
        monkeypatch.setattr(module, name, seconds)


@pytest.mark.parametrize("alive", [True, False])
def test_a_run_on_another_machine_counts_while_it_refreshes_its_object(
    tmp_path: Path, quick: None, alive: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "bucket").mkdir()
    out = Output("s3://bucket", pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "bucket")
    other = f"{LOCK}-{0:020}-other"
    owner = json.dumps({"host": "elsewhere", "pid": 7, "since": 0, "where": []}).encode()
    out.write_bytes(other, owner)
    ended = threading.Event()

    def refresh() -> None:
        while alive and not ended.wait(0.1):
            out.write_bytes(other, owner)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        if alive:
            with pytest.raises(InputError, match=r"another run \(process 7 on elsewhere\)"), locked(out):
                pass
        else:
            with locked(out):
                assert not out.exists(other)
            assert caplog.messages == ["waiting up to 1 s for the lock of a run that may have been killed"]
    finally:
        ended.set()
        thread.join()


def test_of_runs_that_start_together_one_holds_the_store(tmp_path: Path, quick: None) -> None:
    (tmp_path / "bucket").mkdir()
    out = Output("s3://bucket", pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "bucket")
    start, held, refused, most = threading.Barrier(4), [], [], []

    def run() -> None:
        start.wait()
        try:
            with locked(out):
                held.append(1)
                most.append(len(held))
                time.sleep(1.5)
                held.pop()
        except InputError:
            refused.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(refused)) == ([1], 3)
    assert list((tmp_path / "bucket").iterdir()) == []


@pytest.mark.parametrize("output", ["/proc/out", "/sys/kernel/a/b"])
def test_an_output_where_nothing_can_be_written_is_one_line(output: str) -> None:
    with pytest.raises(InputError, match=r"--output .*: cannot write there: ") as caught:
        holds_output(lambda config: None)(SimpleNamespace(output=output))
    assert "\n" not in str(caught.value)


def test_a_disk_without_locks_uses_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(module.errno.ENOSYS, "not implemented")

    monkeypatch.setattr(module.fcntl, "flock", flock)
    out = Output.open(str(tmp_path / "out"))
    with locked(out), pytest.raises(InputError, match="another run"), locked(out):
        pass
    assert names(tmp_path) == []
