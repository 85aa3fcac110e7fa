"""Interface of a task (``specialist``, ``alm``, ``fusion``) to the training loop.

The loop handles no labels or captions. A task is built identically in every worker, and again in the driver,
which saves it. The loop moves it to the device, samples and augments clips, sums gradients over micro-batches and workers, averages the weights,
and computes metrics on the dev clips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zsfuse_ray.config.train import TrainConfig


@dataclass(frozen=True)
class Batch:
    """Clips that one worker processes at once.

    clips: 1-D float32 at the task's rate on the device, at most its window long; augmented in training.
    rows: their rows in the table that the task was built with.
    partners, shares: mixup; clip i is (1 - shares[i]) of row rows[i] and shares[i] of row partners[i].
    seeds: one per clip, the same in any worker, for random masks of its features; None for dev clips.
    """

    clips: list[Tensor]
    rows: NDArray[np.int64]
    partners: NDArray[np.int64]
    shares: NDArray[np.float32]
    seeds: NDArray[np.int64] | None = None


class Task(Protocol):
    """A model in training.

    sample_rate in Hz. window: maximum number of input samples, None for no limit. same_length: padding would
    change the results. score: the dev metric that selects the best checkpoint (larger is better). module:
    its forward(Batch) returns (summed losses, summed weights) of this worker's clips; the loop divides the
    summed gradients by the weight summed over micro-batches and workers.
    """

    sample_rate: int
    window: int | None
    same_length: bool
    score: str

    @property
    def module(self) -> nn.Module:
        """The module to train."""
        ...

    @staticmethod
    def check(config: TrainConfig, table: pa.Table) -> int:
        """Return the sample rate in Hz; InputError for errors that show without loading weights."""
        ...

    def __init__(self, config: TrainConfig, table: pa.Table):
        """Build on the CPU in float32, seeded only by the configuration; table: CLIPS of train and dev."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups, each with its own peak ``lr`` and ``weight_decay``."""
        ...

    def outputs(self, batch: Batch) -> Tensor:
        """Return (clips, k) float32 for clips of the dev set; each row depends only on its clip."""
        ...

    def metrics(self, outputs: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, float]:
        """Return dev metrics, including ``score``, from outputs (n, k) of all dev clips, in any order."""
        ...

    def save(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Write the model as a folder for ``zsfuse score``; adapters are merged.

        figures: the metrics of the epoch that is saved.
        """
        ...

    def card(self) -> Mapping[str, Any]:
        """Facts of the model for its card: family, labels, parameters, licence of the initial model."""
        ...


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's parameters."""
    return next(module.parameters()).device


def count(parameters: Sequence[nn.Parameter]) -> int:
    """Number of weights."""
    return sum(p.numel() for p in parameters)
