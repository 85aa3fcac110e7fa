"""Output of ``zsfuse score`` with a local Ray as a new user sees it, and stopping on a signal."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.jobs.jobs_support import ROOT, heed_sigint, speech, write_wav

EXPECTED = (
    r"starting Ray \(about 10 s\)",
    r"preset mini: models that come with the package. .*",
    r" *\d+%  encoded \d\.\d\d of \d\.\d\d h of audio  .*",
)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A command line and its output folder."""
    folder = tmp_path_factory.mktemp("screen")
    for n in range(6):
        write_wav(folder / "in" / f"{n}.wav", speech(30, seed=n))
    out = folder / "out"
    program = [sys.executable, "-m", "zsfuse_ray", "score", "--item-s", "20"]
    return [*program, "--input", str(folder / "in"), "--output", str(out)], out


def environment() -> dict[str, str]:
    """The environment without any variables of Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def children_of(parent: int) -> dict[int, str]:
    """Command lines of the child processes, which are Ray's, by process id."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()[1:]]
    return {int(pid): args for pid, ppid, args in rows if int(ppid) == parent}


def still_running(processes: dict[int, str]) -> list[str]:
    """Command lines of those processes that have not ended."""
    listed = subprocess.run(["ps", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()[1:]]
    now = {int(pid): args for pid, stat, args in rows if not stat.startswith("Z")}
    return [args for pid, args in processes.items() if now.get(pid) == args]


@pytest.mark.parametrize(
    ("number", "code", "shown"),
    [(signal.SIGTERM, 143, "starting Ray"), (signal.SIGINT, 130, "preset mini")],
    ids=["SIGTERM while Ray starts", "SIGINT while it encodes"],
)
def test_a_signal_stops_it_with_one_line(command, number: signal.Signals, code: int, shown: str) -> None:
    process = subprocess.Popen(
        command[0],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_sigint,
    )
    assert process.stderr is not None
    lines: list[str] = []
    seen = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line.rstrip("\n"))
            if shown in line:
                seen.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert seen.wait(180), lines
    time.sleep(4)  # inside ray.init or inside the pass
    started = children_of(process.pid)
    sent = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    assert time.monotonic() - sent < 10
    reader.join(timeout=10)
    assert lines[-1] == "stopped; the same command resumes"
    assert not [line for line in lines[:-1] if not any(re.fullmatch(known, line) for known in EXPECTED)]
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert started  # Ray's processes, which must end with it
    wait_until = time.monotonic() + 20
    while (left := still_running(started)) and time.monotonic() < wait_until:
        time.sleep(0.5)
    assert not left


def test_only_progress_and_a_summary_are_shown(command) -> None:
    """Resumes the two runs above."""
    argv, out = command
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if not any(re.fullmatch(known, line) for known in EXPECTED)], lines
    segments = pd.read_parquet(out / "segments")
    assert list(segments)[:5] == ["recording_uri", "start_s", "end_s", "label", "confidence"]
    summary = done.stdout.splitlines()
    hours = re.fullmatch(r"(.*) h of audio in 6 recordings, .* h of speech in (\d+) segments", summary[0])
    assert hours
    assert int(hours[2]) == len(segments)
    last = [line for line in lines if "encoded" in line][-1:]
    for line in last:  # the last state of the progress has the summary's hours
        assert f"encoded {hours[1]} of {hours[1]} h of audio" in line
    assert [line.split(" ")[0] for line in summary[1:]] == ["labels", "models:", "tables:", "look:"]
    medians = segments.groupby("label").confidence.median()
    for label, value in re.findall(r"(\w+) \d+% \((\d\.\d\d)\)", summary[1]):
        assert abs(float(value) - medians[label]) < 0.06  # ours is the lower of two middle values
