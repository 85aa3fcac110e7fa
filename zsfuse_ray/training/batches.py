"""The clips of each step of an epoch, determined by the seed, whatever the number of workers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

JITTER = 0.1  # relative noise on lengths when grouping clips by length, so that batches vary


@dataclass(frozen=True)
class Step:
    """One optimiser step over all workers; arrays of shape (clips,), longest clip first.

    rows: the clips. partners, shares: mixup; clip i becomes (1 - shares[i]) of itself and shares[i] of row
    partners[i]. seeds: for the random augmentation of each. longest: samples of the longest cropped clip.
    """

    rows: NDArray[np.int64]
    partners: NDArray[np.int64]
    shares: NDArray[np.float32]
    seeds: NDArray[np.int64]
    longest: int

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.int64]) -> "Step":
        """The step restricted to these clips."""
        return Step(
            self.rows[chosen], self.partners[chosen], self.shares[chosen], self.seeds[chosen], self.longest
        )


def sampling_weights(groups: Sequence[object], power: float) -> NDArray[np.float64]:
    """Return each clip's probability, such that group g is drawn in proportion to n(g)^(1 - power).

    ``groups``: each clip's group; a clip of group g has a probability proportional to n(g)^-power. Power 0
    draws clips uniformly, 1 groups uniformly.
    """
    _, index, number = np.unique(np.array([str(g) for g in groups]), return_inverse=True, return_counts=True)
    weights = number[index] ** -float(power)
    return weights / weights.sum()


def draw(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return as many draws as there are weights, in random order.

    Systematic resampling: clip i is drawn floor or ceil of n·weights[i] times, so equal weights draw every
    clip exactly once.
    """
    order = rng.permutation(len(weights))
    reached = np.cumsum(weights[order]) * len(weights)
    reached[-1] = len(weights)
    # rounded, as a sum of n · (1 / n) may fall just below an integer
    ends = np.floor(np.round(reached, 6) + rng.random() * (1 - 1e-6)).astype(np.int64)
    rows = np.repeat(order, np.diff(ends, prepend=0))
    return rng.permutation(rows)


def plan_epoch(
    samples: NDArray[np.int64],
    weights: NDArray[np.float64],
    budget: int,
    seed: int,
    epoch: int,
    mixup: float = 0.0,
    alpha: float = 0.4,
) -> list[Step]:
    """Return an epoch's steps, in random order, each of clips of similar length.

    samples: length of each cropped clip; weights: its probability (``sampling_weights``); budget: samples of
    a step padded to its longest clip (a longer clip gets its own step). A share ``mixup`` of the clips is
    mixed with another clip of the step, by at most one half.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = draw(weights, rng)
    rows = rows[np.argsort(-samples[rows] * (1 + JITTER * rng.random(len(rows))), kind="stable")]
    batches: list[list[int]] = []
    longest = 0
    for row in rows.tolist():
        longest = max(longest, int(samples[row]))
        if not batches or longest * (len(batches[-1]) + 1) > budget:
            batches.append([])
            longest = int(samples[row])
        batches[-1].append(row)
    if len(batches) > 1 and len(batches[-1]) < len(batches[-2]) / 2:  # no tiny last step
        last = batches.pop()
        both = batches.pop() + last
        batches += [both[: len(both) // 2], both[len(both) // 2 :]]
    return [_step(np.array(batches[i]), samples, rng, mixup, alpha) for i in rng.permutation(len(batches))]


def _step(
    rows: NDArray[np.int64], samples: NDArray[np.int64], rng: np.random.Generator, mixup: float, alpha: float
) -> Step:
    rows = rows[np.argsort(-samples[rows], kind="stable")]
    share = rng.beta(alpha, alpha, len(rows))
    share = np.minimum(share, 1 - share) * (rng.random(len(rows)) < mixup)
    seeds = rng.integers(1 << 62, size=len(rows))
    return Step(rows, rng.permutation(rows), share.astype(np.float32), seeds, int(samples[rows].max()))


def split(step: Step, rank: int, world: int, parts: int) -> list[Step]:
    """Return one worker's share of a step, in parts; each clip is in exactly one worker's part.

    Clips are assigned round-robin, so that shares have similar lengths; some may be empty.
    """
    own = np.arange(len(step))[rank::world]
    return [step.take(own[part::parts]) for part in range(parts)]
