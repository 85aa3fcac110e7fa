"""Helpers for tests of the jobs: audio, tables, waiting."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from zsfuse_ray.audio.demo import PROSODIES, speech_like

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Free ports, above the range of Ray's workers, and low enough that port + 10000 is a port as well."""
    found: list[int] = []
    for port in random.Random(os.getpid()).sample(range(20_000, 30_000), 1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def run_process(name: str, *arguments: object, env: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Run a job as a separate process, like a user."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=300)


def scored(process: subprocess.CompletedProcess, code: int = 0) -> str:
    """Standard output of a job, which must end with this code, without Ray's messages on slow machines."""
    assert process.returncode == code, process.stdout + process.stderr
    return "\n".join(line for line in process.stdout.splitlines() if "(raylet)" not in line)


def tables(out: Path | str) -> dict[str, pd.DataFrame]:
    """The tables of a run as a user reads them, sorted."""
    found = {name: pd.read_parquet(f"{out}/{name}") for name in ("segments", "recordings", "rejects")}
    found["recordings"]["arc"] = found["recordings"]["arc"].map(tuple)
    keys = {
        "segments": ["segment_id"],
        "recordings": ["recording_uri"],
        "rejects": ["recording_uri", "reason"],
    }
    return {name: table.sort_values(keys[name]).reset_index(drop=True) for name, table in found.items()}


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """Write samples in [-1, 1], shape (n,) or (n, channels), as 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def speech(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """Speech-like audio in one of the demo archive's voices."""
    return speech_like(seconds, PROSODIES[seed % len(PROSODIES)], seed=seed, rate=rate)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until the condition holds; fails the test after this many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


def heed_sigint() -> None:
    """Restore SIGINT in a new process: it is ignored in the background jobs of a shell, and so in theirs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def lines(text: str) -> Sequence[str]:
    """Lines of a job's stderr, without Ray's."""
    return [line for line in text.splitlines() if "logging.cc" not in line and line.strip()]
