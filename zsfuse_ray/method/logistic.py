"""Multinomial logistic regression with an L2 penalty chosen on left-out speakers, for the trained fusions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.utils.class_weight import compute_sample_weight

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.calibration import fit
from zsfuse_ray.method.products import row_products
from zsfuse_ray.method.zeroshot import softmax

INNER_FOLDS = 5
FEW_WEIGHTS = 1000  # up to here the exact Newton step is the fastest; its Hessian grows with the square
NEVER = -1e9  # intercept of a label without clips: finite, as `softmax` requires; the probability is still 0


@dataclass(frozen=True, eq=False)
class Classifier:
    """Linear classifier: coef (C, F), intercept (C,).

    c: the inverse penalty it was fitted with. temperature: of its softmax, with the best likelihood of
    left-out speakers; 1 if there was none to leave out.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    c: float = 1.0
    temperature: float = 1.0

    def logits(self, inputs: NDArray) -> NDArray[np.float64]:
        """Return logits (n, C) of inputs (n, F)."""
        return row_products(inputs, self.coef.T) + self.intercept

    def posterior(self, inputs: NDArray) -> NDArray[np.float64]:
        """Return posteriors (n, C) of inputs (n, F)."""
        return softmax(self.logits(inputs) / self.temperature)


def fit_classifier(
    inputs: NDArray,
    targets: NDArray[np.integer],
    n_labels: int,
    strengths: Sequence[float],
    groups: ArrayLike | None = None,
    calibrate: bool = False,
) -> Classifier:
    """Return the classifier of inputs (n, F) and targets (n,).

    Every label has the same total weight, as in UA. The inverse strength of the L2 penalty is chosen among
    strengths (in rising order) on inner folds over the groups (n,), by likelihood; it is 1 for fewer than two
    groups. calibrate: fit the temperature on the same folds. A label missing from the targets gets
    probability 0. InputError for targets with fewer than two labels.
    """
    targets = np.asarray(targets)
    if len(present := np.unique(targets)) < 2:
        raise InputError(f"a trained fusion needs clips of at least two labels, got {len(present)}")
    groups = np.zeros(len(targets), int) if groups is None else np.asarray(groups)
    inputs, directions = _in_span(inputs)
    model = _chosen(inputs, targets, n_labels, strengths, groups, calibrate)
    return model if directions is None else replace(model, coef=model.coef @ directions)


def _chosen(
    inputs: NDArray,
    targets: NDArray[np.integer],
    n_labels: int,
    strengths: Sequence[float],
    groups: NDArray,
    calibrate: bool,
) -> Classifier:
    tried = {c: _left_out_logits(inputs, targets, n_labels, c, groups) for c in strengths}
    found = next(iter(tried.values()))
    if found is None:
        return fit_at(inputs, targets, n_labels, 1.0)
    weights = compute_sample_weight("balanced", targets)
    losses = {c: _loss(pair, targets, weights) for c, pair in tried.items() if pair is not None}
    best = min(losses, key=losses.__getitem__)  # the strongest penalty of ties
    model = fit_at(inputs, targets, n_labels, best)
    if not calibrate:
        return model
    rows, logits = tried[best] or (np.array([], int), np.empty((0, n_labels)))
    known = logits[np.arange(len(rows)), targets[rows]] > NEVER / 2  # no temperature helps the others
    temperature = fit(lambda t: softmax(logits[known] / t), targets[rows][known])
    return Classifier(model.coef, model.intercept, model.c, temperature)


def _left_out_logits(
    inputs: NDArray, targets: NDArray, n_labels: int, c: float, groups: NDArray
) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
    """Rows that could be left out with their groups, and their logits; None for fewer than two groups."""
    folds = min(INNER_FOLDS, len(np.unique(groups)))
    if folds < 2:
        return None
    rows, logits = [np.array([], int)], [np.empty((0, n_labels))]
    for others, held in GroupKFold(folds).split(inputs, targets, groups):
        if len(np.unique(targets[others])) >= 2:
            rows.append(held)
            logits.append(fit_at(inputs[others], targets[others], n_labels, c).logits(inputs[held]))
    return np.concatenate(rows), np.concatenate(logits)


def _loss(pair: tuple[NDArray[np.intp], NDArray[np.float64]], targets: NDArray, weights: NDArray) -> float:
    rows, logits = pair
    right = np.maximum(softmax(logits)[np.arange(len(rows)), targets[rows]], 1e-12) if len(rows) else rows
    return -float(weights[rows] @ np.log(right))


def fit_at(inputs: NDArray, targets: NDArray, n_labels: int, c: float) -> Classifier:
    """Return the classifier with this inverse penalty, without temperature, see `fit_classifier`."""
    inputs, directions = _in_span(inputs)
    few = inputs.shape[1] * n_labels <= FEW_WEIGHTS
    model = LogisticRegression(
        C=c, class_weight="balanced", solver="newton-cholesky" if few else "lbfgs", max_iter=1000
    ).fit(inputs, targets)
    present = model.classes_
    # For two labels, scikit-learn stores only the log odds of the second.
    binary = len(present) == 2
    coef = np.zeros((n_labels, inputs.shape[1]))
    intercept = np.full(n_labels, NEVER)
    coef[present] = np.vstack([np.zeros_like(model.coef_), model.coef_]) if binary else model.coef_
    intercept[present] = [0, model.intercept_[0]] if binary else model.intercept_
    return Classifier(coef if directions is None else coef @ directions, intercept, c)


def _in_span(inputs: NDArray) -> tuple[NDArray, NDArray | None]:
    """Return inputs (n, F) as coordinates (n, n) along directions (n, F), if F is much larger than n.

    The coefficients with the least penalty are in the span of the inputs, so that the classifier is the same
    and found among fewer weights.
    """
    if 2 * len(inputs) > inputs.shape[1]:
        return inputs, None
    basis, scale, directions = np.linalg.svd(inputs, full_matrices=False)
    return basis * scale, directions
