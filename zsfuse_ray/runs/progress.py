"""One line that says how far a run is: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

BAR = 24
LOG_EVERY_S = 15.0
DRAW_EVERY_S = 0.5


@ray.remote(num_cpus=0)
class Tally:
    """Sums what tasks report; lives beside the run."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()
        self.sums = {"planned_s": 0.0, "audio_s": 0.0, "segments": 0, "rejects": 0}

    def add(self, counts: dict[str, float]) -> None:
        """Add the counts of one task."""
        for name, count in counts.items():
            self.sums[name] += count

    def begin(self, item_id: int) -> int:
        """How often this item was begun without being ended, this time included."""
        self.begun[item_id] += 1
        return self.begun[item_id]

    def end(self, item_id: int) -> None:
        """The item came through, whatever became of it."""
        self.begun.pop(item_id, None)

    def read(self) -> dict[str, float]:
        """The sums so far."""
        return self.sums


def report(tally: Any, scored: pa.Table) -> None:
    """Tell the tally about SCORED rows."""
    items = [item for row in scored["items"].to_pylist() for item in row]
    segments = sum(len(row) for row in scored["segments"])
    rejects = sum(item["reason"] is not None for item in items)
    seconds = {name: sum(item[name] for item in items) for name in ("planned_s", "audio_s")}
    tally.add.remote(seconds | {"segments": segments, "rejects": rejects})


def sums(tally: Any) -> dict[str, float]:
    """What the tally has summed up so far."""
    return cast(dict[str, float], ray.get(tally.read.remote()))


def start_tally() -> Any:
    """A Tally on the driver's own machine: others, on spot prices, may go away."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Tally.options(scheduling_strategy=here).remote()


@dataclass
class Line:
    """Prints the progress of ``total_s`` seconds of audio, of which an earlier run did ``earlier_s``."""

    total_s: float
    earlier_s: float
    tally: Any

    def __enter__(self) -> "Line":
        self.started = time.monotonic()
        self.tty = sys.stderr.isatty()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join(timeout=10)
        if exc[0] is None:
            self._print()
        if self.tty:
            print(file=sys.stderr)

    def _run(self) -> None:
        while not self.stop.wait(DRAW_EVERY_S if self.tty else LOG_EVERY_S):
            self._print()

    def _print(self) -> None:
        text = progress_text(
            sums(self.tally), self.total_s, self.earlier_s, time.monotonic() - self.started, self.tty
        )
        print(
            f"\r\x1b[K{text}" if self.tty else text, end="" if self.tty else "\n", file=sys.stderr, flush=True
        )


def progress_text(
    counts: dict[str, float], total_s: float, earlier_s: float, wall_s: float, bar: bool
) -> str:
    """The line itself: hours done of total, × real time, time left, segments, rejects."""
    done = min(total_s, earlier_s + counts["planned_s"])
    share = done / total_s if total_s else 1.0
    speed = counts["audio_s"] / wall_s if wall_s else 0.0
    spent = wall_s / counts["planned_s"] if counts["planned_s"] else None
    left = duration((total_s - done) * spent) if spent else "?"
    filled = round(BAR * share)
    drawn = f"[{'#' * filled}{'.' * (BAR - filled)}] " if bar else ""
    return (
        f"{drawn}{share:4.0%}  {done / 3600:.2f} of {total_s / 3600:.2f} h  {speed:.0f}× real time  "
        f"{left} left  {counts['segments']:,.0f} segments  {counts['rejects']:,.0f} rejects"
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min, 1 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
