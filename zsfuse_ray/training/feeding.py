"""Planned steps → a worker's batches: clips are fetched one step ahead and augmented on the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.training.augment import augmented, background_rows
from zsfuse_ray.training.batches import Step, split
from zsfuse_ray.training.task import Batch, Task


@dataclass(frozen=True)
class Clips:
    """Train and dev clips. Rows are those of the task's table.

    fetch: rows → their int16 samples at the task's rate. samples: length of each row. groups: (corpus,
    label) of each row, for balanced sampling.
    """

    fetch: Callable[[Sequence[int]], list[NDArray[np.int16]]]
    samples: NDArray[np.int64]
    groups: Sequence[object]
    train: NDArray[np.int64]
    dev: NDArray[np.int64]


def prepared(
    steps: list[Step], first: int, task: Task, clips: Clips, config: TrainConfig, device: torch.device
) -> Iterator[list[tuple[Batch, bool]]]:
    """Yield this worker's parts of each step; samples are fetched one step ahead."""

    def fetch(step: Step) -> list[tuple[Step, dict[int, NDArray[np.int16]], bool]]:
        loaded = []
        for part in split(step, rank(), world(), config.accumulate):
            counts = len(part) > 0
            part = part if counts else step.take(np.arange(1))
            voices = {r for seed in part.seeds for r in _voices(int(seed), clips, config)}
            rows = sorted({*part.rows.tolist(), *part.partners[part.shares > 0].tolist(), *voices})
            loaded.append((part, dict(zip(rows, clips.fetch(rows), strict=True)), counts))
        return loaded

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(fetch, steps[first]) if first < len(steps) else None
        for number in range(first, len(steps)):
            assert coming is not None
            loaded = coming.result()
            if number + 1 < len(steps):
                coming = ahead.submit(fetch, steps[number + 1])
            yield [
                (_batch(part, samples, task, clips, config, device), counts)
                for part, samples, counts in loaded
            ]


def _batch(
    step: Step, samples: Mapping[int, NDArray[np.int16]], task: Task, clips: Clips, config: TrainConfig,
    device: torch.device,
) -> Batch:  # fmt: skip
    audio = []
    floats = {row: floats_of(pcm, device) for row, pcm in samples.items()}
    for row, partner, share, seed in zip(step.rows, step.partners, step.shares, step.seeds, strict=True):
        voices = [floats[r] for r in _voices(int(seed), clips, config)]
        other = floats[int(partner)] if share > 0 else None
        clip = augmented(floats[int(row)], voices, other, float(share), int(seed), task.sample_rate, config)
        if task.same_length:  # equal length in every worker's batch
            clip = torch.nn.functional.pad(clip, (0, max(0, step.longest - len(clip))))[: step.longest]
        audio.append(clip[: task.window])
    return Batch(audio, step.rows, step.partners, step.shares, step.seeds)


def _voices(seed: int, clips: Clips, config: TrainConfig) -> list[int]:
    return background_rows(seed, clips.train, config) if config.babble else []


def floats_of(samples: NDArray[np.int16], device: torch.device) -> Tensor:
    """Return samples as float32 in [-1, 1] on the device."""
    return torch.from_numpy(np.array(samples)).to(device).float() / 32768  # a copy: the store's is read-only


def with_rows(step: Step, rows: NDArray[np.int64]) -> Step:
    """The step with indices of training clips replaced by rows of the table."""
    return Step(rows[step.rows], rows[step.partners], step.shares, step.seeds, step.longest)


def world() -> int:
    """Number of workers."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Rank of this worker."""
    return dist.get_rank() if dist.is_initialized() else 0
