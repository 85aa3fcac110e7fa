"""A head: a specialist's logits, corrected by a linear function of the vectors that its own head reads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from zsfuse_ray.method.products import row_products

NEW_SHARE = 0.01  # probability of a label that the specialist does not have, before anything is learnt of it


@dataclass(frozen=True, eq=False)
class Head:
    """logits = (start + vectors · weightᵀ + bias) / temperature, start: of `start_logits`.

    labels: (K,), the specialist's own in the order of its logits, then new ones; weight: (K, V); bias: (K,).
    """

    labels: tuple[str, ...]
    weight: NDArray[np.floating]
    bias: NDArray[np.floating]
    temperature: float = 1.0

    def logits(self, logits: NDArray[np.floating], vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the logits (n, K) of n segments, from those of the specialist (n, S) and vectors (n, V)."""
        start = start_logits(logits, len(self.labels) - logits.shape[1])
        moved = row_products(vectors, self.weight.T) + self.bias
        return (start + moved) / self.temperature


def start_logits(logits: NDArray[np.floating], new: int) -> NDArray[np.float64]:
    """Return logits (n, S + new): each new label has NEW_SHARE of the probability of all old ones."""
    logits = np.asarray(logits, np.float64)
    of_new = logsumexp(logits, axis=1, keepdims=True) + np.log(NEW_SHARE)
    return np.hstack([logits, np.repeat(of_new, new, axis=1)])
