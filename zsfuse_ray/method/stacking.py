"""Fusion by logistic regression on log posteriors: a baseline fitted on labelled clips."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.method.logistic import Classifier, fit_classifier

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # grid for C
FLOOR = 1e-6  # posteriors are clipped at it before the logarithm


@dataclass(frozen=True, eq=False)
class Stacked:
    """Fusion by multinomial logistic regression on log posteriors: a classifier (C, 2C)."""

    classifier: Classifier

    @property
    def c(self) -> float:
        """The inverse penalty it was fitted with."""
        return self.classifier.c

    def predict(self, q: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
        """Return the fused posterior (n, C) of q and p, both (n, C)."""
        return self.classifier.posterior(_log_posteriors(q, p))


def fit_stacked(
    q: ArrayLike, p: ArrayLike, targets: ArrayLike, n_labels: int, speakers: ArrayLike | None = None
) -> Stacked:
    """Return stacked fusion fitted on labelled posteriors q and p (n, C) and targets (n,).

    speakers: (n,), for the choice of the penalty, see `fit_classifier`. InputError for fewer than two labels.
    """
    return Stacked(fit_classifier(_log_posteriors(q, p), np.asarray(targets), n_labels, STRENGTHS, speakers))


def _log_posteriors(q: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.clip(np.hstack([np.asarray(q), np.asarray(p)]), FLOOR, None))
