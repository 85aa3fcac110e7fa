"""Metrics of speech emotion recognition, with confidence intervals over speakers.

UA (unweighted accuracy) is balanced accuracy, WA (weighted accuracy) is plain accuracy. Targets and
predictions are label indices (n,).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.errors import InputError

Metric = Literal["ua", "wa", "macro_f1"]


def confusion(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> NDArray[np.int64]:
    """Return clip counts (C, C), row the target, column the prediction."""
    return _confusions(targets, predictions, np.zeros(len(np.asarray(targets)), dtype=int), n_labels, 1)[0]


def ua(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> float:
    """Return the mean recall over the labels present in the targets."""
    return float(_measure("ua", confusion(targets, predictions, n_labels)))


def wa(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> float:
    """Return the share of clips predicted right."""
    return float(_measure("wa", confusion(targets, predictions, n_labels)))


def macro_f1(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> float:
    """Return the mean F1 over the labels present in targets or predictions, as scikit-learn does."""
    return float(_measure("macro_f1", confusion(targets, predictions, n_labels)))


def ece(posteriors: ArrayLike, targets: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error of the top label over equal-width bins (Guo et al. 2017)."""
    posteriors = np.asarray(posteriors, dtype=np.float64)
    confidence = posteriors.max(axis=1)
    gap = (posteriors.argmax(axis=1) == np.asarray(targets)) - confidence
    bin_of = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return float(np.abs(np.bincount(bin_of, weights=gap)).sum() / len(gap))


def nll(posteriors: ArrayLike, targets: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats; a probability below 1e-12 counts as 1e-12."""
    targets = np.asarray(targets)
    right = np.asarray(posteriors, dtype=np.float64)[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def bootstrap(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str],
    n_labels: int,
    metric: Metric,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval (low, high) of a metric, by resampling whole speakers.

    Clips of a speaker are not independent, so resampling clips would give too narrow an interval. With
    few speakers (below 20 or so) the interval is too narrow even so. InputError for fewer than two.
    """
    clusters, counts = _resample(speakers, n, seed)
    by_speaker = _confusions(targets, predictions, clusters, n_labels, counts.shape[1])
    return _interval(_measure(metric, np.tensordot(counts, by_speaker, axes=1)), level)


def paired_bootstrap(
    targets: ArrayLike,
    pred_a: ArrayLike,
    pred_b: ArrayLike,
    speakers: Sequence[str],
    n_labels: int,
    metric: Metric,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return (difference, low, high): metric of a less metric of b, both on the same drawn speakers."""
    clusters, counts = _resample(speakers, n, seed)
    by_speaker = [
        _confusions(targets, pred, clusters, n_labels, counts.shape[1]) for pred in (pred_a, pred_b)
    ]
    a, b = (_measure(metric, confusions.sum(axis=0)) for confusions in by_speaker)
    drawn_a, drawn_b = (_measure(metric, np.tensordot(counts, c, axes=1)) for c in by_speaker)
    return (float(a - b), *_interval(drawn_a - drawn_b, level))


def _confusions(
    targets: ArrayLike, predictions: ArrayLike, clusters: NDArray[np.int64], n_labels: int, n_clusters: int
) -> NDArray[np.int64]:
    """Return one confusion matrix a cluster, (n_clusters, C, C)."""
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    if len(targets) == 0:
        raise InputError("no labelled clips to score")
    cells = (clusters * n_labels + targets) * n_labels + predictions
    return np.bincount(cells, minlength=n_clusters * n_labels**2).reshape(n_clusters, n_labels, n_labels)


def _measure(metric: Metric, confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the metric of each confusion matrix, (..., C, C) -> (...)."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    actual, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    if metric == "wa":
        return right.sum(axis=-1) / actual.sum(axis=-1)
    if metric == "ua":
        each, present = right / np.maximum(actual, 1), actual > 0
    else:
        each, present = 2 * right / np.maximum(actual + predicted, 1), actual + predicted > 0
    return each.sum(axis=-1) / present.sum(axis=-1)  # an absent label has 0 here


def _resample(speakers: Sequence[str], n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each clip's speaker (clips,) and how often each resample drew each speaker (n, speakers)."""
    names, clusters = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"an interval over speakers needs at least two speakers, got {len(names)}")
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return clusters, counts


def _interval(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
