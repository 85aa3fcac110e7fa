"""The baseline: a support vector machine on log-mel statistics, fitted in minutes."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from zsfuse_ray.method.calibration import fit
from zsfuse_ray.method.metrics import ua
from zsfuse_ray.method.zeroshot import softmax

STRENGTHS = (1.0, 10.0)  # grid for C
REACHES = (1.0, 0.1)  # grid for gamma × number of features; small values approach a linear kernel
INNER_FOLDS = 4
MOST_CLIPS = 6000  # larger sets are subsampled: fitting time grows with the square of the size
_NEVER = 5.0  # a label without training clips scores this far below the clip's lowest score


def svm_posteriors(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    speakers: ArrayLike,
    train: NDArray[np.intp],
    n_labels: int,
) -> tuple[NDArray[np.float64], dict[str, float]] | None:
    """Return posteriors (n, C) of all clips from an SVM fitted on the training clips, and the choices.

    features: (n, F). C and gamma are chosen by UA, the temperature of the softmax over decision values by
    likelihood, both on inner folds over the training speakers. The training clips' own posteriors are
    out-of-fold predictions. None if the training clips have only one label or fewer than two speakers.
    """
    groups = np.asarray(speakers, dtype=str)[train]
    folds = min(INNER_FOLDS, len(set(groups)))
    if folds < 2 or len(set(targets[train])) < 2:
        return None
    best = None
    for reach, strength in product(REACHES, STRENGTHS):
        tried = _svm(strength, reach / features.shape[1])
        scores = _inner_scores(tried, features[train], targets[train], groups, folds, n_labels)
        inner_ua = ua(targets[train], scores.argmax(axis=1), n_labels)
        if best is None or inner_ua > best[0] + 1e-9:
            best = (inner_ua, strength, reach, tried, scores)
    assert best is not None
    inner_ua, strength, reach, model, inner = best
    temperature = fit(lambda t: softmax(inner / t), targets[train])
    scores = _scores(_fit(model, features[train], targets[train]), features, n_labels)
    scores[train] = inner
    chosen = {"C": strength, "gamma × features": reach, "temperature": temperature, "inner UA": inner_ua}
    return softmax(scores / temperature), chosen


def _svm(strength: float, gamma: float) -> Pipeline:
    # one-vs-rest: its margins give better posteriors than pairwise votes
    options: Any = {"C": strength, "gamma": gamma, "class_weight": "balanced"}
    return make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(**options)))


def _fit(model: Pipeline, features: NDArray, targets: NDArray) -> Pipeline:
    if len(targets) > MOST_CLIPS:
        some = np.random.default_rng(0).choice(len(targets), MOST_CLIPS, replace=False)
        features, targets = features[some], targets[some]
    return model.fit(features, targets)


def _inner_scores(
    model: Pipeline, features: NDArray, targets: NDArray, groups: NDArray, folds: int, n_labels: int
) -> NDArray[np.float64]:
    """Out-of-fold decision values, with folds over speakers."""
    scores = np.empty((len(features), n_labels))
    for others, held in GroupKFold(folds).split(features, targets, groups):
        if len(set(targets[others])) < 2:
            scores[held] = 0
            continue
        scores[held] = _scores(_fit(model, features[others], targets[others]), features[held], n_labels)
    return scores


def _scores(model: Pipeline, features: NDArray, n_labels: int) -> NDArray[np.float64]:
    """Decision values (n, C); for two labels scikit-learn returns only those of the second."""
    values = model.decision_function(features)
    values = np.column_stack([-values, values]) if values.ndim == 1 else values
    scores = np.tile(values.min(axis=1, keepdims=True) - _NEVER, n_labels)
    scores[:, model.classes_] = values
    return scores
