"""Batch items of similar length, to reduce padding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


@dataclass
class Halved:
    """Number of batches that did not fit into the memory of a GPU and were halved."""

    batches: int = 0


def make_batches(lengths: Sequence[int], max_samples: int, same_length: bool = False) -> list[list[int]]:
    """Return groups of indices, longest first, each of at most `max_samples` when padded to its longest.

    A longer item forms its own batch. With `same_length`, a batch has only equal lengths.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = batches and longest * (len(batches[-1]) + 1) <= max_samples
        if fits and (lengths[index] == longest or not same_length):
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def run_batched(
    encode: Callable[[list[Item]], Tensor],
    items: Sequence[Item],
    lengths: Sequence[int],
    max_samples: int,
    same_length: bool = False,
    halved: Halved | None = None,
) -> Tensor:
    """Return encode's rows, one per item, in the order of the items (at least one).

    `lengths`: cost of each item, in samples (or tokens). A batch that does not fit into GPU memory is retried
    in halves, which `halved` counts; a single item that does not fit raises torch.cuda.OutOfMemoryError.
    """
    rows: dict[int, Tensor] = {}
    batches = make_batches(lengths, max_samples, same_length)[::-1]
    while batches:
        batch = batches.pop()
        try:
            encoded = encode([items[i] for i in batch])
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            if halved is not None:
                halved.batches += 1
            half = len(batch) // 2
            batches += [batch[half:], batch[:half]]
        else:
            rows.update(zip(batch, encoded, strict=True))
    return torch.stack([rows[i] for i in range(len(items))])
