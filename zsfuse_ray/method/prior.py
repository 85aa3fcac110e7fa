"""Prior correction: label biases that give posteriors a wanted mean.

A model may prefer some labels, such as an ALM whose prompt for one label resembles all audio. A bias for each
label, added to the log posterior of every segment, moves the mean posterior to the shares that are expected;
as Saerens, Latinne & Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori
probabilities", multiply posteriors by ratios of priors. Wrong shares do harm: a uniform mean is wrong for
speech that is mostly neutral.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.method.zeroshot import softmax

TOLERANCE = 1e-6  # of a share
ITERATIONS = 100  # about ten are usual; more only if no biases give the shares, as for posteriors of 0 and 1
_LONGEST_STEP = 10.0  # of a bias, in nats: far from the solution the curvature of confident posteriors is 0


@dataclass(frozen=True, eq=False)
class Prior:
    """Wanted shares of the labels (C,), above 0, sum 1; strength, 0 to 1, multiplies the biases."""

    shares: NDArray[np.float64]
    strength: float = 1.0


def biased(posteriors: NDArray[np.float64], biases: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return posteriors (n, C) times exp(biases), normalised; biases: (C,). None or zeros change nothing.

    A probability of 0 remains 0.
    """
    if biases is None or not biases.any():
        return posteriors
    with np.errstate(divide="ignore"):
        return softmax(np.log(posteriors) + biases)


def fit_biases(
    posteriors: NDArray[np.float64], weights: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return biases (C,), sum 0, for which the weighted mean of `biased` posteriors (n, C) is wanted (C,).

    weights: (n,), at least one above 0; wanted: above 0, sum 1. A label whose probability is 0 everywhere
    gets the bias 0, and the wanted shares of the others are scaled to 1. The biases minimise the convex dual
    Σ wᵢ log Σ exp(log pᵢ + b) − wanted · b, whose gradient is mean − wanted, by Newton's method with
    backtracking. If no biases give the shares, the result is that of the last iteration.
    """
    weights = weights / weights.sum()
    possible = weights @ posteriors > 0
    with np.errstate(divide="ignore"):
        logs = np.log(posteriors[:, possible])
    wanted = wanted[possible] / wanted[possible].sum()

    def evaluate(biases: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The dual, and the biased posteriors."""
        values = logs + biases
        top = values.max(axis=1, keepdims=True)
        values = np.exp(values - top)
        total = values.sum(axis=1, keepdims=True)
        return float(weights @ (top + np.log(total))[:, 0] - wanted @ biases), values / total

    biases = np.zeros(len(wanted))
    loss, moved = evaluate(biases)
    for _ in range(ITERATIONS):
        mean = weights @ moved
        gap = mean - wanted
        if np.abs(gap).max() <= TOLERANCE:
            break
        curvature = np.diag(mean) - (moved * weights[:, None]).T @ moved
        # a bias common to all labels has no effect: the constant makes such a step 0
        step = np.linalg.solve(curvature + 1 / len(wanted) + 1e-12 * np.eye(len(wanted)), gap)
        step *= min(1.0, _LONGEST_STEP / np.abs(step).max())
        size = 1.0
        while True:
            loss_there, moved = evaluate(biases - size * step)
            # the last term: near the solution the loss changes by less than its rounding
            if loss_there <= loss - 1e-4 * size * (gap @ step) + 1e-12 or size < 1e-6:
                break
            size /= 2
        biases, loss = biases - size * step, loss_there
    every = np.zeros(len(possible))
    every[possible] = biases - biases.mean()
    return every
