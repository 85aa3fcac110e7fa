"""Choose a configuration: the best, or the simplest within one standard error of the best."""

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
    """Summaries of all blocks; score, subset: (B, F + 1, T, W); folds: (B, F + 1, T, W, F)."""

    settings: tuple[Setting, ...]
    weights: NDArray[np.float64]
    score: NDArray[np.float64]
    subset: NDArray[np.uint64]
    folds: NDArray[np.float32]

    @classmethod
    def of(cls, settings: Sequence[Setting], weights: NDArray, summaries: Sequence[Summary]) -> "Candidates":
        """Stack the summaries of the settings' blocks."""
        stacked = (np.stack([getattr(s, name) for s in summaries]) for name in ("score", "subset", "folds"))
        return cls(tuple(settings), weights, *stacked)


@dataclass(frozen=True)
class Choice:
    """A configuration, its mean score on the folds it was chosen on, and the standard error of the best."""

    configuration: Configuration
    score: float
    error: float


@dataclass(frozen=True)
class Only:
    """Restriction of the candidates; None: no restriction."""

    amplified: bool = True
    prompts: int | None = None
    weight: float | None = None
    ensemble: str | None = None
    words: int | None = None


def choose(candidates: Candidates, training_set: int, rule: Rule, only: Only = Only()) -> Choice:
    """Choose by the mean score over the folds of one training set (see `Summary`).

    one_se: the simplest configuration whose mean is within one standard error of the best, where the error
    is that of the best over these folds (Breiman et al. 1984, section 3.4.3). Simplest is the specialist
    alone (w = 0), then fewer prompts, fewer copies (a · b), a smaller weight; ties go to the better score,
    then to the first. best: the best score; ties go to the simplest.
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
    # lexsort: the last key is the primary one. At w = 0 the keys in `simple` are all 0.
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
    """Mask (B, T, W) of what may be chosen."""
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
