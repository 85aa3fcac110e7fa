"""Metrics of speech emotion recognition, with confidence intervals over speakers.

UA (unweighted accuracy) is balanced accuracy, WA (weighted accuracy) is plain accuracy. Targets and
predictions are label indices (n,).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from zsfuse_ray.errors import InputError

Metric = Literal["ua", "wa", "macro_f1"]

BINS = 15  # of confidence, for calibration


def confusion(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> NDArray[np.int64]:
    """Return clip counts (C, C); rows are targets, columns predictions."""
    return _confusions(targets, predictions, np.zeros(len(np.asarray(targets)), dtype=int), n_labels, 1)[0]


def ua(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> float:
    """Return the mean recall over the labels present in the targets."""
    return float(_measure("ua", confusion(targets, predictions, n_labels)))


def wa(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> float:
    """Return the share of clips predicted correctly."""
    return float(_measure("wa", confusion(targets, predictions, n_labels)))


def macro_f1(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> float:
    """Return the mean F1 over the labels present in targets or predictions, as scikit-learn does."""
    return float(_measure("macro_f1", confusion(targets, predictions, n_labels)))


def ece(posteriors: ArrayLike, targets: ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error of the top label over equal-width bins (Guo et al. 2017)."""
    bin_of, confidence, right = _binned(posteriors, targets, bins)
    return float(np.abs(np.bincount(bin_of, weights=right - confidence)).sum() / len(bin_of))


def nll(posteriors: ArrayLike, targets: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats; a probability below 1e-12 counts as 1e-12."""
    targets = np.asarray(targets)
    right = np.asarray(posteriors, dtype=np.float64)[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def recalls(targets: ArrayLike, predictions: ArrayLike, n_labels: int) -> NDArray[np.float64]:
    """Return the recall of each label (C,), NaN for a label without clips."""
    counts = confusion(targets, predictions, n_labels)
    actual = counts.sum(axis=1)
    return np.where(actual > 0, np.diagonal(counts) / np.maximum(actual, 1), np.nan)


def reliability(
    posteriors: ArrayLike, targets: ArrayLike, bins: int = BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return clip count, mean confidence and accuracy of each bin of `ece`; NaN for an empty bin."""
    bin_of, confidence, right = _binned(posteriors, targets, bins)
    clips = np.bincount(bin_of, minlength=bins)
    some = np.where(clips > 0, clips, np.nan)
    sums = [np.bincount(bin_of, weights=values, minlength=bins) for values in (confidence, right)]
    return clips, sums[0] / some, sums[1] / some


def drawn(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str],
    n_labels: int,
    metric: Metric | Literal["ece"],
    *,
    groups: ArrayLike | None = None,
    n: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the metric (n,) on n bootstrap resamples of the speakers; deterministic in speakers and seed.

    groups: (clips,) whose metrics are averaged, such as cross-validation folds; a group without clips in a
    resample is skipped. For "ece", predictions are posteriors (clips, C).
    """
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    clusters, counts = _resample(speakers, n, seed)
    names, group = np.unique(np.zeros(len(targets)) if groups is None else groups, return_inverse=True)
    cells = group * counts.shape[1] + clusters  # one per group and speaker
    n_cells = len(names) * counts.shape[1]
    if metric == "ece":
        of_cell = _gaps(predictions, targets, cells, n_cells)
    else:
        of_cell = _confusions(targets, predictions, cells, n_labels, n_cells)
    by_group = of_cell.reshape(len(names), counts.shape[1], *of_cell.shape[1:])
    total = np.zeros(n)
    counted = np.zeros(n)
    for by_speaker in by_group:
        sums = np.tensordot(counts, by_speaker, axes=1)
        clips = sums[:, -1] if metric == "ece" else sums.sum(axis=(1, 2))
        some = clips > 0
        counted += some
        values = (
            np.abs(sums[some, :-1]).sum(axis=1) / clips[some]
            if metric == "ece"
            else _measure(metric, sums[some])
        )
        total[some] += values
    return total / counted


def interval(draws: NDArray[np.float64], n_speakers: int, level: float = 0.95) -> tuple[float, float]:
    """Return the expanded percentile interval (low, high) of resampled values (Hesterberg 2015, section 4.3).

    Plain percentile intervals are too narrow for few speakers: they lack the factor sqrt(n / (n - 1)) and the
    tails of the t distribution. With 10 speakers their coverage is 89 % instead of 95 %; that of the expanded
    interval is 94 %. With three or four speakers it is too narrow as well: too few distinct resamples.
    """
    tail = stdtrit(n_speakers - 1, (1 - level) / 2) * np.sqrt(n_speakers / (n_speakers - 1))
    low, high = np.quantile(draws, [ndtr(tail), ndtr(-tail)])
    return float(low), float(high)


def _binned(
    posteriors: ArrayLike, targets: ArrayLike, bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return each clip's bin, its confidence, and whether the top label is correct."""
    posteriors = np.asarray(posteriors, dtype=np.float64)
    confidence = posteriors.max(axis=1)
    bin_of = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return bin_of, confidence, posteriors.argmax(axis=1) == np.asarray(targets)


def _gaps(posteriors: ArrayLike, targets: ArrayLike, clusters: NDArray[np.int64], n_clusters: int) -> NDArray:
    """Return, per cluster, the sum of (correct - confidence) in each bin, followed by the number of clips."""
    bin_of, confidence, right = _binned(posteriors, targets, BINS)
    cells = clusters * BINS + bin_of
    gaps = np.bincount(cells, weights=right - confidence, minlength=n_clusters * BINS)
    clips = np.bincount(clusters, minlength=n_clusters)
    return np.hstack([gaps.reshape(n_clusters, BINS), clips[:, None]])


def _confusions(
    targets: ArrayLike, predictions: ArrayLike, clusters: NDArray[np.int64], n_labels: int, n_clusters: int
) -> NDArray[np.int64]:
    """Return one confusion matrix per cluster, (n_clusters, C, C)."""
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
    return each.sum(axis=-1) / present.sum(axis=-1)  # `each` is 0 for an absent label


def _resample(speakers: Sequence[str], n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each clip's speaker index (clips,) and the draws of each speaker per resample (n, speakers)."""
    names, clusters = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"an interval over speakers needs at least two speakers, got {len(names)}")
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return clusters, counts
