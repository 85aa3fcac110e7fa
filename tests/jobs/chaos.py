"""A Ray cluster of several nodes on this machine, and seeded schedules of what is killed when."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.jobs.jobs_support import free_ports, wait_for

RAY = (sys.executable, "-m", "ray.scripts.scripts")
WORKERS = 2  # nodes beside the head at the start of a schedule
KINDS = ("worker", "actor", "node", "driver", "add")
RUN_S = 400.0  # limit of one run of the driver on a busy machine


@dataclass
class Nodes:
    """A head and worker nodes, each a raylet with processes of its own; environment: of drivers on them."""

    environment: dict[str, str]
    folder: Path
    address: str
    head: subprocess.Popen
    workers: list[subprocess.Popen] = field(default_factory=list)

    def add(self) -> None:
        """Start a worker node and wait until it has joined."""
        self.workers.append(
            _started(["--address", self.address, "--num-cpus=2"], self.environment, self.folder)
        )

    def mend(self) -> None:
        """The usual number of worker nodes again."""
        while len(self.workers) > WORKERS:
            _ended(self.workers.pop())
        while len(self.workers) < WORKERS:
            self.add()

    def lose(self, rng: random.Random) -> str:
        """Kill all processes of a worker node at once."""
        if not self.workers:
            return "no node left"
        _ended(self.workers.pop(rng.randrange(len(self.workers))))
        return "a node"

    def kill(self, rng: random.Random, wanted: Callable[[str], bool]) -> str:
        """Kill a process of Ray whose title is wanted, on any node; returns its title, "" without one."""
        found = {}
        for node in (self.head, *self.workers):
            for process in _family(node.pid):
                with suppress(psutil.Error):
                    title = " ".join(process.cmdline())
                    # an agent is a part of its node, which ends with it
                    if title.startswith("ray::") and "Agent" not in title and wanted(title):
                        found[process.pid] = title
        if not found:
            return ""
        pid = rng.choice(sorted(found))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return found[pid].strip()


@contextmanager
def nodes(folder: Path, environment: Mapping[str, str]) -> Iterator[Nodes]:
    """A cluster with WORKERS nodes beside the head."""
    (port,) = free_ports(1)
    temporary = Path("/tmp") / f"zc{os.getpid()}"  # short: paths of Ray's sockets are limited in length
    own = {k: v for k, v in environment.items() if k not in ("RAY_ADDRESS", "AWS_ENDPOINT_URL")}
    own |= {"RAY_health_check_failure_threshold": "2", "RAY_health_check_period_ms": "1000"}
    start = [
        "--head",
        f"--port={port}",
        "--num-cpus=3",
        "--include-dashboard=false",
        f"--temp-dir={temporary}",
    ]
    head = _started(start, own, folder)
    address = f"127.0.0.1:{port}"
    cluster = Nodes({**own, "RAY_ADDRESS": address}, folder, address, head)
    try:
        cluster.mend()
        yield cluster
    finally:
        for process in (*cluster.workers, head):
            _ended(process)
        shutil.rmtree(temporary, ignore_errors=True)


def _started(options: Sequence[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen:
    path = folder / f"node-{time.monotonic_ns()}.log"
    own = {k: v for k, v in environment.items() if k != "RAY_ADDRESS"}
    small = ["--object-store-memory=200000000", "--disable-usage-stats", "--block"]
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*RAY, "start", *options, *small], env=own, stdout=log, stderr=log, start_new_session=True
        )

    def ready() -> bool:
        assert process.poll() is None, path.read_text()
        return "Ray runtime started" in path.read_text()

    wait_for(ready, 300, "a node")
    return process


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _ended(process: subprocess.Popen) -> None:
    for one in _family(process.pid):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


@dataclass(frozen=True)
class Event:
    """What is killed or added when so many files of a run are there."""

    files: int
    kind: str


def schedule(seed: int, files: int) -> list[Event]:
    """Two to four events at moments of a run that writes so many files."""
    rng = random.Random(seed)
    moments = sorted(rng.randint(0, files) for _ in range(rng.randint(2, 4)))
    return [Event(moment, rng.choice(KINDS)) for moment in moments]


@dataclass
class Endured:
    """What a schedule did: its events, the runs of the driver with their exit codes."""

    happened: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)


def endure(
    cluster: Nodes,
    command: Sequence[str],
    out: Path,
    events: Sequence[Event],
    seed: int,
    look: Callable[[], None],
) -> Endured:
    """Run a command until it is complete while the events happen; look: called all the time, as a reader."""
    rng, waiting, endured = random.Random(seed), list(events), Endured()
    while True:
        log = out.parent / f"driver-{len(endured.codes)}.log"
        with log.open("wb") as file:
            driver = subprocess.Popen(
                command, env=cluster.environment, stdout=file, stderr=file, start_new_session=True
            )
        deadline = time.monotonic() + RUN_S
        while driver.poll() is None:
            assert time.monotonic() < deadline, f"{endured}: no end: {log.read_text()[-3000:]}"
            if waiting and files_in(out) >= waiting[0].files:
                kind = waiting[0].kind
                if victim := _happen(cluster, kind, driver, rng):
                    endured.happened.append(f"{kind}: {victim}")
                    waiting.pop(0)
            look()
            time.sleep(0.05)
        endured.codes.append(driver.returncode)
        if driver.returncode == 0:
            return endured
        written = log.read_text()
        assert driver.returncode in (3, -signal.SIGKILL), f"{endured}: {written[-3000:]}"
        assert driver.returncode != 3 or "the same command resumes" in written.strip().splitlines()[-1], (
            written
        )
        assert len(endured.codes) <= len(events) + 1, f"{endured}: {written[-3000:]}"


def _happen(cluster: Nodes, kind: str, driver: subprocess.Popen, rng: random.Random) -> str:
    """Let an event happen; returns to whom, "" if it has to wait for a victim."""
    if kind == "node":
        return cluster.lose(rng)
    if kind == "add":
        cluster.add()
        return "a node"
    if kind == "driver":
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        return "killed"
    if kind == "actor":  # an encoder, or the tally of attempts
        return cluster.kill(rng, lambda title: "MapWorker" in title or "Tally" in title)
    others = ("MapWorker", "Tally", "Actor", "Tracker", "IDLE")  # Ray's own, and workers without a task
    return cluster.kill(rng, lambda title: not any(name in title for name in others))


def files_in(folder: Path) -> int:
    """The number of files in a folder and all below."""
    return sum(len(names) for _, _, names in os.walk(folder))
