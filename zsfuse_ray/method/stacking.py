"""Fusion by logistic regression on log posteriors: a baseline fitted on labelled clips."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.zeroshot import softmax


@dataclass(frozen=True, eq=False)
class Stacked:
    """Fusion by multinomial logistic regression on log posteriors: coef (C, 2C), intercept (C,).

    Posteriors are clipped at `floor` before the logarithm.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    floor: float = 1e-6

    def predict(self, q: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
        """Return the fused posterior (n, C) of q and p, both (n, C)."""
        return softmax(_log_posteriors(q, p, self.floor) @ self.coef.T + self.intercept)


def fit_stacked(q: ArrayLike, p: ArrayLike, targets: ArrayLike, n_labels: int, c: float = 1.0) -> Stacked:
    """Return stacked fusion fitted on labelled posteriors q and p (n, C) and targets (n,).

    c is the inverse strength of the L2 penalty. A label missing from the targets gets probability 0.
    InputError for targets with fewer than two labels.
    """
    floor = Stacked.floor
    present = np.unique(np.asarray(targets))
    if len(present) < 2:
        raise InputError(f"stacked fusion needs clips of at least two labels, got {len(present)}")
    model = LogisticRegression(C=c, max_iter=1000).fit(_log_posteriors(q, p, floor), targets)
    # For two labels, scikit-learn stores only the log odds of the second.
    binary = len(present) == 2
    coef = np.zeros((n_labels, 2 * n_labels))
    intercept = np.full(n_labels, -1e9)  # finite, as `softmax` requires; the probability is still 0
    coef[present] = np.vstack([np.zeros_like(model.coef_), model.coef_]) if binary else model.coef_
    intercept[present] = [0, model.intercept_[0]] if binary else model.intercept_
    return Stacked(coef, intercept, floor)


def _log_posteriors(q: ArrayLike, p: ArrayLike, floor: float) -> NDArray[np.float64]:
    return np.log(np.clip(np.hstack([np.asarray(q), np.asarray(p)]), floor, None))
