"""Normalise pooled vectors by the statistics of a recording or a speaker, shrunk to those of training.

This removes what is constant over a group (voice, microphone, room). Groups with few segments stay close to
the training statistics, so a single segment can be labelled too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHRINKAGE = (
    10.0  # k: a group of k segments gets half of the correction; chosen on corpora left out of training
)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the vectors of G groups. counts: (G,); sums, squares: (G, V), of values and squares."""

    groups: tuple[str, ...]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.floating], groups: Sequence[str]) -> "Sums":
        """Sum vectors (n, V) by the names of their groups, (n,)."""
        names, place, counts = np.unique(np.asarray(groups, object), return_inverse=True, return_counts=True)
        sums, squares = (np.zeros((len(names), vectors.shape[1])) for _ in range(2))
        np.add.at(sums, place, _on_grid(vectors))
        np.add.at(squares, place, _on_grid(np.square(vectors, dtype=np.float64)))
        return cls(tuple(names), counts.astype(np.int64), sums, squares)

    @classmethod
    def total(cls, parts: Sequence["Sums"]) -> "Sums":
        """Add up the sums of parts of an archive; a group may be in several."""
        names, place = np.unique(
            np.array([group for part in parts for group in part.groups], object), return_inverse=True
        )
        counts = np.bincount(place, np.concatenate([part.counts for part in parts]), len(names))
        sums, squares = (np.zeros((len(names), parts[0].sums.shape[1])) for _ in range(2))
        np.add.at(sums, place, np.concatenate([part.sums for part in parts]))
        np.add.at(squares, place, np.concatenate([part.squares for part in parts]))
        return cls(tuple(names), counts.astype(np.int64), sums, squares)

    def normalise(
        self, vectors: NDArray[np.floating], groups: Sequence[str], shrinkage: float = SHRINKAGE
    ) -> NDArray[np.floating]:
        """Return vectors (n, V) normalised by their groups, (n,), all of them among these.

        The vectors are standardised: mean 0 and variance 1 in training. With mean m and variance v of a group
        of n, x becomes (x − s·m) / √(s·v + 1 − s), s = n / (n + shrinkage).
        """
        row = {group: place for place, group in enumerate(self.groups)}
        place = np.array([row[group] for group in groups], np.int64)
        share = (self.counts / (self.counts + shrinkage))[:, None]
        mean = self.sums / self.counts[:, None]
        variance = np.maximum(self.squares / self.counts[:, None] - np.square(mean), 0)
        scale = np.sqrt(share * variance + 1 - share)
        return ((vectors - (share * mean)[place]) / scale[place]).astype(vectors.dtype)


def _on_grid(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Round to multiples of 2^-30: sums below 2^23, of a million such values, are exact in any order."""
    return np.rint(values * 2.0**30) / 2.0**30


def normalised(
    vectors: NDArray[np.floating], groups: Sequence[str], shrinkage: float = SHRINKAGE
) -> NDArray[np.floating]:
    """Return vectors (n, V) normalised by the statistics of their own groups, see `Sums.normalise`."""
    return Sums.of(vectors, groups).normalise(vectors, groups, shrinkage)
