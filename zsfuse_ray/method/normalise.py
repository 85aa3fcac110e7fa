"""Normalise pooled vectors by the statistics of a recording or a speaker, shrunk to those of training.

Removes what is constant over a group (voice, microphone, room). Groups with few segments keep the training
statistics, so a single segment can be labelled too.
"""

import numpy as np
from numpy.typing import NDArray

SHRINKAGE = 10.0  # k: with k segments, half of the correction; chosen on corpora left out of training


def normalised(
    vectors: NDArray[np.floating], groups: NDArray[np.integer], shrinkage: float = SHRINKAGE
) -> NDArray[np.floating]:
    """Return vectors (n, V) normalised per group (n,); they are standardised: mean 0, variance 1 in training.

    A group of n vectors with mean m and variance v gives (x − s·m) / √(s·v + 1 − s), with s = n / (n + k):
    a James-Stein-like shrinkage to the training statistics.
    """
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums, squares = (np.zeros((len(counts), vectors.shape[1]), np.float64) for _ in range(2))
    np.add.at(sums, group, vectors)
    np.add.at(squares, group, np.square(vectors, dtype=np.float64))
    return apply(vectors, group, counts, sums, squares, shrinkage)


def apply(
    vectors: NDArray[np.floating],
    group: NDArray[np.integer],
    counts: NDArray[np.integer],
    sums: NDArray[np.floating],
    squares: NDArray[np.floating],
    shrinkage: float = SHRINKAGE,
) -> NDArray[np.floating]:
    """Return vectors (n, V) normalised by the counts (G,), sums and sums of squares (G, V) of their groups.

    group: (n,), the row of each vector's group.
    """
    share = (counts / (counts + shrinkage))[:, None]
    mean = sums / counts[:, None]
    variance = np.maximum(squares / counts[:, None] - np.square(mean), 0)
    scale = np.sqrt(share * variance + 1 - share)
    return ((vectors - (share * mean)[group]) / scale[group]).astype(vectors.dtype)
