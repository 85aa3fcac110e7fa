"""The function of each training process: build the task, load the last checkpoint, train, report."""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.cluster import cores
from zsfuse_ray.training.clips import StoredClips
from zsfuse_ray.training.loop import Clips, Report, State, run
from zsfuse_ray.training.tasks import task_class

STATE = "state.pt"


def train_worker(setup: dict[str, Any]) -> str | None:
    """Train as one of Ray Train's workers; returns a user's error to correct, or None.

    setup: config (TrainConfig), table (CLIPS of train and dev), stored (StoredClips of its rows), watcher
    (the actor that collects each epoch's figures).
    """
    config: TrainConfig = setup["config"]
    table: pa.Table = setup["table"]
    stored: StoredClips = setup["stored"]
    warnings.filterwarnings("ignore", message=".*find_unused_parameters.*")
    logging.getLogger("torch.nn.parallel").setLevel(logging.ERROR)
    context = ray.train.get_context()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // context.get_local_world_size()))
    task = problem = None
    try:
        task = task_class(config)(config, table)
    except InputError as error:  # if raised, Ray Train would retry
        problem = str(error)
    if problem := first_problem(problem):
        return problem
    assert task is not None
    splits = np.array(table["split"].to_pylist())
    clips = Clips(
        stored.fetch,
        stored.samples,
        list(zip(table["corpus"].to_pylist(), table["emotion"].to_pylist(), strict=True)),
        np.flatnonzero(splits == "train"),
        np.flatnonzero(splits == "dev"),
    )
    is_first = context.get_world_rank() == 0
    state = last_state()
    if is_first and state is not None:
        reached = {name: float(state["progress"][name]) for name in ("epoch", "step")}
        ray.get(setup["watcher"].add.remote(reached | {"resumed": 1.0}))
    run(task, clips, config, device, reporter(is_first, setup["watcher"]), state)
    return None


def first_problem(own: str | None) -> str | None:
    """The first worker's start-up error, or None. On an error all workers end, as they would wait for it."""
    if not dist.is_initialized():
        return own
    problems: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, own)
    return next(filter(None, problems), None)


def reporter(is_first: bool, watcher: Any) -> Report:
    """Return a function that reports to Ray Train; the first worker's adds a checkpoint and the watcher."""

    def report(figures: dict[str, float], state: Any) -> None:
        if not is_first:
            ray.train.report(figures)
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state(), Path(folder) / STATE)
            ray.train.report(figures, checkpoint=ray.train.Checkpoint.from_directory(folder))
        ray.get(watcher.add.remote(figures))  # wait, as this process may end right after

    return report


def last_state() -> State | None:
    """Return the state of the last checkpoint, or None at the start."""
    checkpoint = ray.train.get_checkpoint()
    return load_state(checkpoint) if checkpoint else None


def load_state(checkpoint: Any) -> State:
    """Read a checkpoint onto the CPU."""
    with checkpoint.as_directory() as folder:
        return torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True)
