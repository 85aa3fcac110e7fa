"""Which configuration: the best, or the simplest that is as good within the error of the measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.experiments.settings import Setting
from zsfuse_ray.experiments.tune.configurations import Configuration
from zsfuse_ray.experiments.tune.summary import SAME, Summary

Rule = Literal["one_se", "best"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Summaries of all blocks: score, subset (B, F + 1, T, W), folds (B, F + 1, T, W, F)."""

    settings: tuple[Setting, ...]
    weights: NDArray[np.float64]
    score: NDArray[np.float64]
    subset: NDArray[np.uint64]
    folds: NDArray[np.float32]

    @classmethod
    def of(cls, settings: Sequence[Setting], weights: NDArray, summaries: Sequence[Summary]) -> "Candidates":
        """Put the summaries of these blocks together."""
        stacked = (np.stack([getattr(s, name) for s in summaries]) for name in ("score", "subset", "folds"))
        return cls(tuple(settings), weights, *stacked)


@dataclass(frozen=True)
class Choice:
    """A configuration, its mean score on the folds it was chosen on, and the best one's standard error."""

    configuration: Configuration
    score: float
    error: float


@dataclass(frozen=True)
class Only:
    """What may be chosen from; None allows everything."""

    amplified: bool = True
    prompts: int | None = None
    weight: float | None = None
    ensemble: str | None = None
    words: int | None = None


def choose(candidates: Candidates, training_set: int, rule: Rule, only: Only = Only()) -> Choice:
    """Choose by the mean score over the folds of one training set (see `Summary`).

    one_se: the simplest configuration whose mean is no further from the best than the best's standard error
    over these folds (Breiman et al. 1984, section 3.4.3). Simplest is the specialist alone (w = 0), then
    fewer prompts, fewer copies (a · b), less of the ALM; of equally simple ones the better, then the first.
    best: the best, of equals the simplest.
    """
    mean = candidates.score[:, training_set]
    block, prompts, weight = np.nonzero(_allowed(candidates, only) & np.isfinite(mean))
    values = mean[block, prompts, weight]
    top = values.argmax()
    folds = candidates.folds[block[top], training_set, prompts[top], weight[top]].astype(np.float64)
    if training_set < len(folds):
        folds = np.delete(folds, training_set)
    error = float(folds.std(ddof=1) / np.sqrt(len(folds)))
    near = np.flatnonzero(values >= values[top] - (error if rule == "one_se" else 0) - 10 * SAME)
    copies = np.array([setting.a * setting.text.b for setting in candidates.settings])
    fused = candidates.weights[weight[near]] > 0
    # The last key counts most. Those of w = 0 differ in the first alone.
    simple = [np.where(fused, key, 0) for key in (weight[near], copies[block[near]], prompts[near])]
    order = np.lexsort((block[near], -values[near], *simple, fused))
    one = near[order[0]]
    place = (block[one], training_set, prompts[one], weight[one])
    chosen = Configuration(
        candidates.settings[block[one]],
        int(candidates.subset[place]),
        round(float(candidates.weights[weight[one]]), 9),
    )
    return Choice(chosen, float(values[one]), error)


def _allowed(candidates: Candidates, only: Only) -> NDArray[np.bool_]:
    """Which (B, T, W) may be chosen."""
    n_blocks, _, n_prompts, n_weights = candidates.score.shape
    allowed = np.ones((n_blocks, n_prompts, n_weights), bool)
    for b, setting in enumerate(candidates.settings):
        plain = setting.a == setting.text.b == 1
        allowed[b] &= only.amplified or plain
        allowed[b] &= only.ensemble in (None, setting.ensemble)
        allowed[b] &= only.words in (None, setting.text.words)
    if only.prompts is not None:
        allowed &= (np.arange(1, n_prompts + 1) == only.prompts)[:, None]
    if only.weight is not None:
        allowed &= np.isclose(candidates.weights, only.weight)
    return allowed
