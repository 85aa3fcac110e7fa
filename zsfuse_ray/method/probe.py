"""A linear probe: the specialist that is refitted on labelled clips, a linear head on frozen vectors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.method.logistic import INNER_FOLDS, Classifier, fit_at, fit_classifier

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # grid for C; a vector has hundreds of values of variance 1


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier on vectors standardised by mean and deviation (V,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    classifier: Classifier

    def logits(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """Return logits (n, C) of vectors (n, V)."""
        return self.classifier.logits((np.asarray(vectors, np.float64) - self.mean) / self.deviation)


def fit_probe(
    vectors: ArrayLike, targets: ArrayLike, n_labels: int, groups: ArrayLike
) -> tuple[Probe, NDArray[np.float64]]:
    """Return the probe of vectors (n, V) and targets (n,), and logits (n, C) of the same clips, left out.

    Multinomial logistic regression in which every label has the same weight. The penalty is chosen on the
    groups (n,), such as `inner_folds`; the logits of each group are those of a probe of the other groups with
    that penalty, so that weights and temperatures can be fitted on them. InputError for fewer than two
    labels.
    """
    vectors, targets, groups = np.asarray(vectors, np.float64), np.asarray(targets), np.asarray(groups)
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    inputs = (vectors - mean) / deviation
    classifier = fit_classifier(inputs, targets, n_labels, STRENGTHS, groups)
    left_out = np.zeros((len(targets), n_labels))  # uniform where the other groups have a single label
    for group in np.unique(groups):
        others, held = groups != group, groups == group
        if len(np.unique(targets[others])) >= 2:
            left_out[held] = fit_at(inputs[others], targets[others], n_labels, classifier.c).logits(
                inputs[held]
            )
    return Probe(mean, deviation, classifier), left_out


def inner_folds(
    speakers: ArrayLike, targets: ArrayLike, seed: int = 0, n: int = INNER_FOLDS
) -> NDArray[np.int64]:
    """Return the inner fold (m,) of each training clip, at most n of them, which share no speaker.

    speakers: (m,), drawn at random by the seed. For a single speaker, or if one is unknown (""), the folds
    are of clips, balanced over the targets (m,): choices made on them are then optimistic for other speakers.
    """
    rng = np.random.default_rng(seed)
    names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) > 1 and "" not in names:
        return (rng.permutation(len(names)) % n)[speaker]
    shuffled = rng.permutation(len(speaker))
    by_label = shuffled[np.argsort(np.asarray(targets)[shuffled], kind="stable")]
    fold = np.empty(len(speaker), np.int64)
    fold[by_label] = np.arange(len(speaker)) % n
    return fold
