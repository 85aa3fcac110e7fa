"""Progress of a training: one line per epoch on the screen, and curves in TensorBoard."""

import logging
import threading
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tensorboardX import SummaryWriter

from zsfuse_ray.runs.progress import duration
from zsfuse_ray.training.loop import RANK

LOOK_EVERY_S = 0.5

log = logging.getLogger(__name__)


@ray.remote(num_cpus=0)
class Watcher:
    """Keeps the first worker's figures of each epoch, for the driver to fetch."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def add(self, figures: dict[str, float]) -> None:
        """Add an epoch's figures."""
        self.figures.append(figures)

    def after(self, number: int) -> list[dict[str, float]]:
        """Return all figures but the first ``number``."""
        return self.figures[number:]


def start_watcher() -> Any:
    """A Watcher on the driver's machine, as other (spot) nodes may be preempted."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Watcher.options(scheduling_strategy=here).remote()


class Screen:
    """Prints a Watcher's figures and writes them for TensorBoard into ``folder`` while the block runs."""

    def __init__(self, watcher: Any, epochs: int, folder: Path):
        self.watcher, self.epochs, self.folder = watcher, epochs, folder
        self.shown = 0
        self.stop = threading.Event()

    def __enter__(self) -> "Screen":
        self.writer = SummaryWriter(str(self.folder), flush_secs=5)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop.set()
        self.thread.join()
        self._look()
        self.writer.close()

    def _run(self) -> None:
        while not self.stop.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        for figures in ray.get(self.watcher.after.remote(self.shown)):
            self.shown += 1
            if "loss" in figures:
                for name in figures.keys() - {"epoch", RANK}:
                    self.writer.add_scalar(name, figures[name], int(figures["epoch"]))
            log.info(line(figures, self.epochs))


def line(figures: dict[str, float], epochs: int) -> str:
    """One line for an epoch, a checkpoint within one, or a start from a checkpoint."""
    epoch = int(figures["epoch"])
    if "loss" not in figures:
        what = "resumes from" if "resumed" in figures else "checkpoint in"
        return f"{what} epoch {epoch + 1}/{epochs}, step {int(figures['step'])}"
    parts = [f"epoch {epoch}/{epochs}", f"loss {figures['loss']:.4f}"]
    parts += [
        f"{n.replace('_', ' ')} {figures[n]:.1%}"
        for n in sorted(figures, reverse=True)
        if n.startswith("dev_")
    ]
    left_s = figures["seconds"] * (epochs - epoch)
    left = duration(left_s)
    return "  ".join([*parts, f"{figures['seconds']:.1f} s", f"{left} left" if epoch < epochs else "last"])
