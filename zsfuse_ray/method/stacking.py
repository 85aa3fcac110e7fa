"""Fusion by logistic regression on log posteriors: a baseline fitted on labelled clips."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.utils.class_weight import compute_sample_weight

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.zeroshot import softmax

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # grid for C
INNER_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Stacked:
    """Fusion by multinomial logistic regression on log posteriors: coef (C, 2C), intercept (C,).

    c: the inverse penalty it was fitted with. Posteriors are clipped at `floor` before the logarithm.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    c: float = 1.0
    floor: float = 1e-6

    def predict(self, q: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
        """Return the fused posterior (n, C) of q and p, both (n, C)."""
        return _posterior(self, _log_posteriors(q, p, self.floor))


def fit_stacked(
    q: ArrayLike, p: ArrayLike, targets: ArrayLike, n_labels: int, speakers: ArrayLike | None = None
) -> Stacked:
    """Return stacked fusion fitted on labelled posteriors q and p (n, C) and targets (n,).

    Every label has the same total weight, as in UA. The inverse strength of the L2 penalty is chosen among
    STRENGTHS on inner folds over the speakers (n,), by likelihood; it is 1 for fewer than two speakers. A
    label missing from the targets gets probability 0. InputError for targets with fewer than two labels.
    """
    targets = np.asarray(targets)
    if len(present := np.unique(targets)) < 2:
        raise InputError(f"stacked fusion needs clips of at least two labels, got {len(present)}")
    inputs = _log_posteriors(q, p, Stacked.floor)
    groups = np.zeros(len(targets), int) if speakers is None else np.asarray(speakers)
    return _fit(inputs, targets, n_labels, _strength(inputs, targets, n_labels, groups))


def _strength(inputs: NDArray, targets: NDArray, n_labels: int, groups: NDArray) -> float:
    """The inverse penalty with the best likelihood of left-out speakers, with the fit's own label weights."""
    folds = min(INNER_FOLDS, len(np.unique(groups)))
    if folds < 2:
        return 1.0
    weights = compute_sample_weight("balanced", targets)
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for others, held in GroupKFold(folds).split(inputs, targets, groups):
        if len(np.unique(targets[others])) < 2:
            continue
        for c in STRENGTHS:
            fused = _posterior(_fit(inputs[others], targets[others], n_labels, c), inputs[held])
            right = np.maximum(fused[np.arange(len(held)), targets[held]], 1e-12)
            losses[c] -= float(weights[held] @ np.log(right))
    return min(STRENGTHS, key=losses.__getitem__)  # the strongest penalty of ties


def _fit(inputs: NDArray, targets: NDArray, n_labels: int, c: float) -> Stacked:
    model = LogisticRegression(C=c, class_weight="balanced", solver="newton-cholesky", max_iter=1000).fit(
        inputs, targets
    )
    present = model.classes_
    # For two labels, scikit-learn stores only the log odds of the second.
    binary = len(present) == 2
    coef = np.zeros((n_labels, 2 * n_labels))
    intercept = np.full(n_labels, -1e9)  # finite, as `softmax` requires; the probability is still 0
    coef[present] = np.vstack([np.zeros_like(model.coef_), model.coef_]) if binary else model.coef_
    intercept[present] = [0, model.intercept_[0]] if binary else model.intercept_
    return Stacked(coef, intercept, c)


def _posterior(model: Stacked, inputs: NDArray) -> NDArray[np.float64]:
    return softmax(inputs @ model.coef.T + model.intercept)


def _log_posteriors(q: ArrayLike, p: ArrayLike, floor: float) -> NDArray[np.float64]:
    return np.log(np.clip(np.hstack([np.asarray(q), np.asarray(p)]), floor, None))
