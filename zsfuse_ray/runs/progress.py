"""Progress of a verb: a bar on a terminal, periodic lines in a log."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray.exceptions
from tqdm import tqdm

LOG_EVERY_S = 15.0
LOOK_EVERY_S = 0.5
WORTH_A_LINE_S = 2.0  # shorter work gets no final line
BAR = "{percentage:3.0f}%|{bar:20}| {desc}"

log = logging.getLogger(__name__)


class Progress:
    """Shows finished work out of `total` units; `earlier` units, by an earlier command, are not in the rate.

    unit: its name in the line; "h" is hours of audio. Draws nothing if the package's INFO messages are not
    shown, as in a program that uses it as a library.
    """

    def __init__(self, what: str, total: float, unit: str, earlier: float = 0.0) -> None:
        self.what, self.total, self.unit, self.earlier = what, total, unit, earlier
        self.done = earlier
        self.started = self.logged = time.monotonic()
        self.bar: tqdm | None = None
        if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=earlier, bar_format=BAR, file=sys.stderr)
            self.update(earlier)

    def update(self, done: float) -> None:
        """Show that `done` units are finished, including those of earlier commands."""
        self.done = min(done, self.total)
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.set_description_str(self._text())
        elif time.monotonic() - self.logged >= LOG_EVERY_S:
            self.logged = time.monotonic()
            log.info("%3.0f%%  %s", 100 * self.done / (self.total or 1), self._text())

    def end(self, complete: bool = True) -> None:
        """Show the final state; complete: all of the work is done."""
        if complete:
            self.done = self.total
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.set_description_str(self._text())
            self.bar.close()
        elif complete and time.monotonic() - self.started >= WORTH_A_LINE_S:
            log.info("100%%  %s", self._text())

    def _text(self) -> str:
        took = time.monotonic() - self.started
        return progress_text(self.what, self.done, self.total, self.unit, self.done - self.earlier, took)


@contextmanager
def watched(progress: Progress, done: Callable[[], float]) -> Iterator[None]:
    """Show `done()`, the number of finished units, while the block runs; polled from a separate thread."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_EVERY_S):
            try:
                progress.update(done())
            except ray.exceptions.RayError:  # also raised in the main thread, which reports it
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    complete = False
    try:
        yield
        complete = True
    finally:
        stop.set()
        thread.join(timeout=10)
        progress.end(complete)


def progress_text(what: str, done: float, total: float, unit: str, done_now: float, took_s: float) -> str:
    """Finished and total work, the rate of this command, and the time left at that rate.

    done_now: units that this command has finished, in took_s seconds.
    """
    if unit == "h":
        amount, rate = f"{done:.2f} of {total:.2f} h of audio", f"{3600 * done_now / max(took_s, 1e-9):.0f}×"
        rate += " real time"
    else:
        amount = f"{done:,.0f} of {total:,.0f} {unit}"
        rate = f"{done_now / max(took_s, 1e-9):.3g} {unit}/s"
    if done >= total:
        return f"{what} {amount}  {rate}  in {duration(took_s)}"
    left = f"{duration((total - done) * took_s / done_now)} left" if done_now > 0 else "starting"
    return f"{what} {amount}  {rate}  {left}" if done_now > 0 else f"{what} {amount}  {left}"


def duration(seconds: float) -> str:
    """Seconds in readable units: 42 s, 3 min, 1 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
