"""Memory of a search over many segments: a search on random evidence, monitored from outside.

It runs in a separate process (``python -m zsfuse_ray.benchmark.memory``) with its own Ray; measured are that
process and all its descendants.
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
DIM = 512  # as in CLAP
SPEAKERS, FOLDS = 200, 5
FEW = 4  # templates; few enough to search all blocks quickly
WATCH_S = 0.5
STARTED, DONE = "started", "done.json"


@dataclass(frozen=True)
class Task:
    """A search: the first ``blocks`` of the 16 (a, b), with this many segments and templates."""

    segments: int
    templates: int
    blocks: int


def memory(config: BenchmarkConfig) -> list[Figure]:
    """Peak memory of two searches: a short complete one, and a long one over all templates.

    The short one, of few templates, includes all blocks and the choice, with nested estimates and intervals.
    The long one is stopped after ``memory_minutes``; its peak in the last quarter of the time is compared
    with that in the second quarter, as streaming must not grow.
    """
    few = min(FEW, config.templates)
    short = watch(Task(config.memory_segments, few, len(COPIES) ** 2), None)
    long = watch(Task(config.memory_segments, config.templates, config.memory_blocks), config.memory_minutes)
    size = f"{config.memory_segments:,} segments × {len(LABELS)} labels"
    return [_figure(size, short), *_of_long(size, long)]


@dataclass(frozen=True)
class Watched:
    """A monitored search: seconds since its start and GB, per sample; configurations tried, if complete."""

    task: Task
    seconds: tuple[float, ...]
    gigabytes: tuple[float, ...]
    tried: int | None

    def quarter(self, n: int) -> float:
        """Peak in a quarter (0 to 3) of the time; with too few samples the overall peak."""
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
    note = "peak in the last quarter of the search minus peak in the second"
    return [_figure(size, watched), Figure("growth during the search", (1000 * growth,), "MB", note)]


def watch(task: Task, minutes: float | None) -> Watched:
    """Search in a separate process and monitor the memory of its process tree; stop it after ``minutes``.

    Shared pages, such as those of Ray's object store, count once (PSS on Linux).
    """
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        command = [sys.executable, "-m", __name__, json.dumps(asdict(task), allow_nan=False), folder]
        process = psutil.Popen(command, env=environment(), stdout=log, stderr=log)
        seconds, gigabytes = [], []
        started = None
        try:
            while process.poll() is None:
                if started is None and (Path(folder) / STARTED).exists():
                    started = time.monotonic()
                now = 0.0 if started is None else time.monotonic() - started
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
                f"--parts memory: the search failed with exit code {code}: {log.read()[-2000:].strip()}"
            )
        tried = json.loads((Path(folder) / DONE).read_text())["tried"] if code == 0 else None
    return Watched(task, tuple(seconds), tuple(gigabytes), tried)


def tree_bytes(process: psutil.Process) -> int:
    """Memory of a process tree in bytes; processes that end meanwhile count as 0."""
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
    """Kill a process tree; Ray's processes would otherwise outlive it for a while."""
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
    """Entry point of the monitored process: search, choice and assessment on random evidence."""
    # lazy imports: the monitoring process does not need Tune
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
                np.log(rng.dirichlet(np.ones(len(LABELS)), task.segments)), np.eye(len(LABELS), dtype=bool)
            )
        },
    )
    every = [Setting(a, Text(b), "embedding", "linear", 1.0) for a, b in product(COPIES, COPIES)]
    settings = every[: task.blocks]
    own_ray = connect(None)
    (Path(folder) / STARTED).touch()
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
    (Path(folder) / DONE).write_text(json.dumps({"tried": tried}, allow_nan=False))


if __name__ == "__main__":
    _search(Task(**json.loads(sys.argv[1])), sys.argv[2])
