"""Which segments a person should listen to first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RANDOM, UNCERTAIN, DISAGREE = "random", "uncertain", "disagree"
SHORTEST_S = 1.0  # shorter segments are hard for people too


@dataclass
class Top:
    """The k rows with the largest keys of all that were added."""

    k: int
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    def add(self, rows: pd.DataFrame, keys: NDArray[np.float64]) -> None:
        """Add rows with their keys; a row whose key is NaN is left out."""
        found = rows.assign(_key=keys).iloc[np.argsort(-keys)[: np.isfinite(keys).sum()][: self.k]]
        joined = pd.concat([self.rows, found]) if len(self.rows) else found
        self.rows = joined.sort_values("_key", ascending=False, kind="stable").iloc[: self.k]


class Checks:
    """Collects the segments to check from batches of all segments.

    sample: size of the random sample, of all segments with the same chance; hardest: number of the least
    certain segments, and of those on which specialist and ALM disagree most.
    """

    def __init__(self, labels: Sequence[str], sample: int, hardest: int, seed: int = 0):
        self.labels = labels
        self._random = np.random.default_rng(seed)
        self._top = {RANDOM: Top(sample), UNCERTAIN: Top(hardest), DISAGREE: Top(hardest)}

    def add(self, rows: pd.DataFrame) -> None:
        """Add segments, with the columns of segments/."""
        long = (rows["end_s"] - rows["start_s"]).to_numpy() >= SHORTEST_S
        self._top[RANDOM].add(rows, self._random.random(len(rows)))
        self._top[UNCERTAIN].add(rows, np.where(long, -rows["confidence"].to_numpy(np.float64), np.nan))
        self._top[DISAGREE].add(rows, np.where(long, disagreement(rows, self.labels), np.nan))

    def found(self) -> list[dict[str, Any]]:
        """The segments, each once, with why they are among them: the random sample first."""
        seen, result = set(), []
        for why, top in self._top.items():
            rows: Iterable[dict[Any, Any]] = top.rows.to_dict("records")
            for row in rows:
                place = (row["recording_uri"], row["start_s"], row["end_s"])
                if place not in seen:
                    seen.add(place)
                    result.append({**row, "why": why})
        return result


def disagreement(rows: pd.DataFrame, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the total variation distance (n,) of the two models' posteriors; NaN with a single model.

    A label that the specialist does not have, null there, counts as probability 0.
    """
    names = {kind: [f"{kind}_{label}" for label in labels] for kind in ("specialist", "alm")}
    if not all(name in rows for own in names.values() for name in own):
        return np.full(len(rows), np.nan)
    one, two = (np.nan_to_num(rows[own].to_numpy(np.float64)) for own in names.values())
    return np.abs(one - two).sum(axis=1) / 2
