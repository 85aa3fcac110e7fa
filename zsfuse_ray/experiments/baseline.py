"""The line every model has to beat: a support vector machine on log-mel statistics, minutes to fit."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from zsfuse_ray.method.metrics import ua
from zsfuse_ray.method.zeroshot import fit_temperature, softmax

STRENGTHS = (1.0, 10.0)  # C to choose from
REACHES = (1.0, 0.1)  # gamma times the number of features; the smaller, the nearer to a linear machine
INNER_FOLDS = 4
MOST_CLIPS = 6000  # a fit takes seconds up to here, and grows with the square; of more, a sample
_NEVER = 5.0  # how far below its lowest score a clip's score for a label lies that no training clip has


def svm_posteriors(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    speakers: ArrayLike,
    train: NDArray[np.intp],
    n_labels: int,
) -> tuple[NDArray[np.float64], dict[str, float]] | None:
    """Return posteriors (n, C) of all clips by an SVM fitted on the training clips; and what was chosen.

    features: (n, F). C and gamma are chosen by UA, the temperature of the softmax over decision values by
    likelihood, both on inner folds of the training speakers, which give the training clips' own posteriors
    too. None where the training clips have one label alone, or fewer than two speakers.
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
    temperature = fit_temperature(inner, targets[train])
    scores = _scores(_fit(model, features[train], targets[train]), features, n_labels)
    scores[train] = inner
    chosen = {"C": strength, "gamma × features": reach, "temperature": temperature, "inner UA": inner_ua}
    return softmax(scores / temperature), chosen


def _svm(strength: float, gamma: float) -> Pipeline:
    # one machine a label: their margins make better posteriors than the votes of pairs
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
    """Decision values of each clip by the model fitted on the other folds of speakers."""
    scores = np.empty((len(features), n_labels))
    for others, held in GroupKFold(folds).split(features, targets, groups):
        if len(set(targets[others])) < 2:
            scores[held] = 0
            continue
        scores[held] = _scores(_fit(model, features[others], targets[others]), features[held], n_labels)
    return scores


def _scores(model: Pipeline, features: NDArray, n_labels: int) -> NDArray[np.float64]:
    """Decision values (n, C); for two labels scikit-learn gives the second one's alone."""
    values = model.decision_function(features)
    values = np.column_stack([-values, values]) if values.ndim == 1 else values
    scores = np.tile(values.min(axis=1, keepdims=True) - _NEVER, n_labels)
    scores[:, model.classes_] = values
    return scores
