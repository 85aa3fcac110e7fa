"""Fit a `Head` on few labelled segments: logistic regression that is pulled towards the specialist.

The specialist's logits are the offset of a multinomial logistic regression on its vectors, and only what is
added to them is penalised (L2): without labels the head is the specialist, with many it is free of it. It is
the maximum a posteriori estimate under a Gaussian prior around the old weights (as in Chelba & Acero 2006,
"Adaptation of maximum entropy capitalizer", Computer Speech & Language 20).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fminbound, minimize
from scipy.special import logsumexp

from zsfuse_ray.method.calibration import BOUNDS
from zsfuse_ray.method.head import Head, start_logits
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.zeroshot import softmax

# Strengths of the pull to choose from, and the one for labels in too few groups. With 20 labels of a corpus
# that the specialist does well on, weaker ones than this lower its accuracy; see dev/few_labels.py.
STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
USUAL_STRENGTH = 0.1
FEWEST_GROUPS = 5  # as many folds: with fewer the choice is a matter of chance
# Standard deviation of the temperature's logarithm before any label: 20 segments that happen to be right
# would otherwise be proof of certainty, and the likelihood of the others falls without limit.
_SPREAD = 0.3
_CONSTANT = 0.3  # size of the input for the bias, beside vectors of mean square 1


@dataclass(frozen=True, eq=False)
class Scaling:
    """How vectors become inputs: mean and deviation, (V,), of all segments of the archive."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> "Scaling":
        """That of vectors (n, V); a value that never changes is not scaled."""
        deviation = vectors.std(axis=0, dtype=np.float64)
        return cls(vectors.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-6, deviation, 1.0))

    def inputs(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Inputs (n, V + 1): of mean square 1 whatever the size V, so that a strength suits all models."""
        scaled = (vectors - self.mean) / (self.deviation * np.sqrt(vectors.shape[1]))
        return np.hstack([scaled, np.full((len(vectors), 1), _CONSTANT)])

    def layer(self, delta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight (K, V) and bias (K,) on vectors of coefficients (K, V + 1) on inputs."""
        weight = delta[:, :-1] / (self.deviation * np.sqrt(delta.shape[1] - 1))
        return weight, _CONSTANT * delta[:, -1] - weight @ self.mean


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head, the strength of its pull, and figures out of fold: each group by a fit on the other folds.

    chosen: whether the strength was chosen by them; if not, there were too few groups and figures is None.
    figures: {"specialist", "head"} → {"ua", "nll"} over the labels that could be given.
    """

    head: Head
    strength: float
    chosen: bool
    figures: dict[str, dict[str, float]] | None


def fit_head(
    labels: Sequence[str],
    possible: NDArray[np.bool_],
    logits: NDArray[np.floating],
    vectors: NDArray[np.floating],
    targets: NDArray[np.integer],
    groups: NDArray[np.str_],
    scaling: Scaling,
) -> Fitted:
    """Fit a head on n labelled segments.

    labels: (K,), the specialist's S and then new ones; possible: (K,), those that could be given to these
    segments: the fit compares only them, and leaves the logits of the others as they are; logits: (n, S);
    vectors: (n, V); targets: (n,), places in labels; groups: (n,), the speaker or recording of each. The
    strength of the pull and the temperature are those of the lowest NLL out of fold, the latter drawn towards 1.
    Each label counts the same: on archives of mostly one label, this is better for UA (dev/few_labels.py).
    """
    columns = np.flatnonzero(possible)
    start = start_logits(logits, len(labels) - logits.shape[1])[:, columns]
    inputs = scaling.inputs(vectors)
    targets = np.searchsorted(columns, targets)
    weights = _balanced(targets)
    strength, temperature, figures = USUAL_STRENGTH, 1.0, None
    folds = _folds(groups)
    if folds is not None:
        of_strength = {one: _out_of_fold(start, inputs, targets, weights, folds, one) for one in STRENGTHS}
        strength = min(of_strength, key=lambda one: nll(softmax(of_strength[one]), targets))
        left_out = of_strength[strength]
        temperature = _temperature(left_out, targets)
        figures = {
            "specialist": _figures(start, targets),
            "head": _figures(left_out / temperature, targets),
        }
    delta = np.zeros((len(labels), inputs.shape[1]))
    delta[columns] = penalised_fit(start, inputs, targets, strength, weights)
    weight, bias = scaling.layer(delta)
    head = Head(tuple(labels), weight.astype(np.float32), bias.astype(np.float32), temperature)
    return Fitted(head, strength, folds is not None, figures)


def penalised_fit(
    start: NDArray[np.floating],
    inputs: NDArray[np.float64],
    targets: NDArray[np.integer],
    strength: float,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the D (K, V) that minimises Σ weight · NLL of softmax(start + inputs · Dᵀ) + strength/2 · ‖D‖².

    start: (n, K); inputs: (n, V); targets: (n,); weights: (n,), by default 1. Convex; at the minimum the rows
    of D are combinations of the inputs (representer theorem), so with n < V it is sought in their span.
    """
    basis = None
    if len(inputs) < inputs.shape[1]:
        basis, triangle = np.linalg.qr(inputs.T)
        inputs = triangle.T
    n, k = start.shape
    weights = np.ones(n) if weights is None else weights
    hits = np.zeros((n, k))
    hits[np.arange(n), targets] = 1

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = start + inputs @ flat.reshape(k, -1).T
        losses = np.asarray(logsumexp(scores, axis=1)) - scores[np.arange(n), targets]
        posteriors = softmax(scores)
        slope = (weights[:, None] * (posteriors - hits)).T @ inputs
        return float(weights @ losses + strength / 2 * flat @ flat), slope.ravel() + strength * flat

    options = {"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-7}
    found = minimize(objective, np.zeros(k * inputs.shape[1]), jac=True, method="L-BFGS-B", options=options)
    delta = found.x.reshape(k, -1)
    return delta if basis is None else delta @ basis.T


def _folds(groups: NDArray[np.str_]) -> NDArray[np.intp] | None:
    """The fold (n,) of each segment: whole groups, largest first, to the smallest fold; None if too few."""
    names, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < FEWEST_GROUPS:
        return None
    fold_of, sizes = np.zeros(len(names), np.intp), np.zeros(FEWEST_GROUPS)
    for group in np.argsort(-counts, kind="stable"):
        fold_of[group] = sizes.argmin()
        sizes[fold_of[group]] += counts[group]
    return fold_of[place]


def _out_of_fold(
    start: NDArray[np.float64],
    inputs: NDArray[np.float64],
    targets: NDArray[np.integer],
    weights: NDArray[np.float64],
    folds: NDArray[np.intp],
    strength: float,
) -> NDArray[np.float64]:
    """Logits (n, K) of each fold by a fit on the others."""
    scores = np.empty_like(start)
    for fold in range(FEWEST_GROUPS):
        own, others = folds == fold, folds != fold
        delta = penalised_fit(start[others], inputs[others], targets[others], strength, weights[others])
        scores[own] = start[own] + inputs[own] @ delta.T
    return scores


def _temperature(scores: NDArray[np.float64], targets: NDArray[np.integer]) -> float:
    """The temperature of logits (n, K) with the highest posterior probability, of four digits."""

    def loss(log_t: float) -> float:
        left = nll(softmax(scores / np.exp(log_t)), targets) * len(targets)
        return left + (log_t / _SPREAD) ** 2 / 2

    return float(f"{np.exp(fminbound(loss, *np.log(BOUNDS), xtol=1e-4)):.4g}")


def _balanced(targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """The weight (n,) of each segment, of mean 1: each label that is there counts the same."""
    counts = np.bincount(targets)
    return len(targets) / (np.count_nonzero(counts) * counts[targets])


def _figures(scores: NDArray[np.float64], targets: NDArray[np.integer]) -> dict[str, float]:
    posteriors = softmax(scores)
    return {
        "ua": ua(targets, posteriors.argmax(axis=1), scores.shape[1]),
        "nll": nll(posteriors, targets),
    }
