"""How much memory a search of many segments takes: the search on random evidence, watched from outside.

It runs as a process of its own (``python -m zsfuse_ray.benchmark.memory``) with a Ray of its own, and what is
measured is that process with all below it.
"""

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import psutil

from zsfuse_ray.benchmark.figures import Figure
from zsfuse_ray.benchmark.throughput import environment
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.method.prompts import TEMPLATES

LABELS = ("angry", "happy", "sad", "neutral", "fearful", "disgust", "surprised", "calm")
COPIES = (1, 2, 3, 4)
DIM = 512  # of the usual CLAP
SPEAKERS, FOLDS = 200, 5
FEW = 4  # templates of which all blocks are soon searched
WATCH_S = 0.5
BEGUN, DONE = "begun", "done.json"


@dataclass(frozen=True)
class Task:
    """What is searched: the first blocks of the 16 (a, b), with this many segments and templates."""

    segments: int
    templates: int
    blocks: int


def memory(config: BenchmarkConfig) -> list[Figure]:
    """Peak memory of two searches: a short one to its very end, and whole blocks of all templates.

    The short one, of few templates, has all blocks and the choice after them, with its nested estimates and
    intervals; the other one is stopped after ``memory_minutes`` where it takes longer, and what it took in
    the last quarter of its time is compared with the second: what streams does not grow.
    """
    few = min(FEW, config.templates)
    short = watch(Task(config.memory_segments, few, len(COPIES) ** 2), None)
    long = watch(Task(config.memory_segments, config.templates, config.memory_blocks), config.memory_minutes)
    size = f"{config.memory_segments:,} segments × {len(LABELS)} labels"
    return [_figure(size, short), *_of_long(size, long)]


@dataclass(frozen=True)
class Watched:
    """A search watched: seconds since it began and GB at each look, and how many it tried, if it ended."""

    task: Task
    seconds: tuple[float, ...]
    gigabytes: tuple[float, ...]
    tried: int | None

    def quarter(self, n: int) -> float:
        """The most that was taken in a quarter of the time, 0 to 3; of few looks the most of all."""
        end = self.seconds[-1]
        among = [g for s, g in zip(self.seconds, self.gigabytes, strict=True) if n <= 4 * s / end <= n + 1]
        return max(among, default=max(self.gigabytes))


def _figure(size: str, watched: Watched) -> Figure:
    what = f"peak memory, {size} × {watched.task.templates} templates × 4 a × 4 b"
    if watched.tried is None:
        note = (
            f"stopped after {watched.seconds[-1]:.0f} s, within the first {watched.task.blocks} of 16 blocks"
        )
    else:
        note = f"{watched.tried:,} configurations in {watched.task.blocks} of 16 blocks, and the choice"
    return Figure(what, (max(watched.gigabytes),), "GB", note)


def _of_long(size: str, watched: Watched) -> list[Figure]:
    growth = watched.quarter(3) - watched.quarter(1)
    note = "most in the last quarter of the search less most in the second"
    return [_figure(size, watched), Figure("its growth while searching", (1000 * growth,), "MB", note)]


def watch(task: Task, minutes: float | None) -> Watched:
    """Search in a process of its own and watch the memory of it and all below it; stopped after so long.

    Shared pages, such as those of Ray's object store, count once (Linux's PSS).
    """
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        command = [sys.executable, "-m", __name__, json.dumps(asdict(task)), folder]
        process = psutil.Popen(command, env=environment(), stdout=log, stderr=log)
        seconds, gigabytes = [], []
        began = None
        try:
            while process.poll() is None:
                if began is None and (Path(folder) / BEGUN).exists():
                    began = time.monotonic()
                now = 0.0 if began is None else time.monotonic() - began
                gigabytes.append(tree_bytes(process) / 1e9)
                seconds.append(now)
                if minutes is not None and now > 60 * minutes:
                    break
                time.sleep(WATCH_S)
            code = process.poll()
        finally:
            end(process)
        if code:
            log.seek(0)
            raise RuntimeError(
                f"the search of --parts memory ended with {code}: {log.read()[-2000:].strip()}"
            )
        tried = json.loads((Path(folder) / DONE).read_text())["tried"] if code == 0 else None
    return Watched(task, tuple(seconds), tuple(gigabytes), tried)


def tree_bytes(process: psutil.Process) -> int:
    """Bytes of a process and all below it; what ends meanwhile has none."""
    total = 0
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in tree:
        try:
            info = one.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(info, "pss", info.rss)
    return total


def end(process: psutil.Process) -> None:
    """End a process and all below it; Ray's own would otherwise outlive it for a while."""
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in tree:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=30)


def _search(task: Task, folder: str) -> None:
    """The process that is watched: random evidence of the task's size, searched, chosen from and assessed."""
    # imported here: the process that watches needs no Tune
    from zsfuse_ray.experiments.evidence import Alm, Evidence, Specialist, Text
    from zsfuse_ray.experiments.settings import Setting
    from zsfuse_ray.experiments.tune.assess import assess
    from zsfuse_ray.experiments.tune.choice import Candidates
    from zsfuse_ray.experiments.tune.trials import search_blocks
    from zsfuse_ray.experiments.tune.written import written
    from zsfuse_ray.runs.cluster import connect, cores
    from zsfuse_ray.runs.folder import Output

    rng = np.random.default_rng(0)

    def directions(*size: int) -> np.ndarray:
        vectors = rng.standard_normal((*size, DIM), np.float32)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors

    speakers = np.arange(task.segments) % SPEAKERS
    evidence = Evidence(
        labels=LABELS,
        targets=rng.integers(len(LABELS), size=task.segments),
        speakers=speakers.astype(str),
        folds=speakers % FOLDS,
        alms={
            "alm": Alm(
                audio={a: directions(task.segments) for a in COPIES},
                text={Text(b): directions(task.templates, len(LABELS)) for b in COPIES},
                scale=20.0,
            )
        },
        specialists={
            "specialist": Specialist(
                rng.dirichlet(np.ones(len(LABELS)), task.segments), np.ones(len(LABELS), bool)
            )
        },
    )
    every = [Setting(a, Text(b), "embedding", "linear", 1.0) for a, b in product(COPIES, COPIES)]
    settings = every[: task.blocks]
    own_ray = connect(None)
    (Path(folder) / BEGUN).touch()
    at_once = cores() if own_ray else None
    summaries, failed = search_blocks(evidence, settings, "ua", Output.open(folder), at_once)
    if failed:
        raise RuntimeError(f"blocks failed: {failed}")
    weights = np.linspace(0, 1, next(iter(summaries.values())).score.shape[2])
    candidates = Candidates.of([settings[n] for n in summaries], weights, list(summaries.values()))
    config = TuneConfig(
        corpus=("random:none",),
        output=folder,
        templates=TEMPLATES[: task.templates],
        ensembles=("embedding",),
        fusions=("linear",),
    )
    written(evidence, candidates, config, assess(evidence, candidates, config))
    tried = sum(summary.tried for summary in summaries.values())
    (Path(folder) / DONE).write_text(json.dumps({"tried": tried}))


if __name__ == "__main__":
    _search(Task(**json.loads(sys.argv[1])), sys.argv[2])
