"""UA by number of labelled speakers: a specialist alone, fused with an ALM, fused with a second specialist.

In each draw a third of the speakers is tested; the labelled ones are drawn from the others, the same first
ones for each number. The specialist is a linear head on the frozen trunk's vectors of the labelled speakers.
The ALM and the control saw only the other corpora, and nothing of this one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dev.learning_curve.material import Target
from zsfuse_ray.experiments.choices import WEIGHTS
from zsfuse_ray.experiments.intervals import interval
from zsfuse_ray.method import metrics
from zsfuse_ray.method.calibration import fit, fit_tempered, tempered
from zsfuse_ray.method.concat import fit_concat
from zsfuse_ray.method.fusion import RULES, fuse
from zsfuse_ray.method.metrics import nll
from zsfuse_ray.method.probe import fit_probe, inner_folds
from zsfuse_ray.method.zeroshot import softmax

LABELLED = (1, 2, 4, None)  # speakers; None: all that are not tested
TESTED = 1 / 3  # share of the speakers
WEIGHT = 0.2  # of the pools whose weight is not chosen
SPECIALIST = "specialist"
SECONDS = ("alm", "control")


@dataclass(frozen=True, eq=False)
class Draw:
    """Predicted labels of the test clips (rows of the target) by system, and the weights that were chosen."""

    rows: NDArray[np.intp]
    predicted: dict[str, NDArray[np.int64]]
    weights: dict[str, float]


def draw(target: Target, n: int, seed: int) -> dict[str, Draw]:
    """The draw of a number, by the number of labelled speakers ("all" for all that are not tested)."""
    rng = np.random.default_rng([seed, n])
    return {k: _draw(target, labelled, tested, seed + n) for k, labelled, tested in _speakers(target, rng)}


def curve(target: Target, draws: Sequence[Mapping[str, Draw]], resamples: int) -> dict[str, Any]:
    """Return UA of each system, and its gain over the specialist, by number of labelled speakers.

    Values are means over draws. Intervals are over speakers: all draws are resampled together.
    """
    return {k: _summary(target, [one[k] for one in draws], resamples) for k in draws[0]}


def _speakers(
    target: Target, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the number of labelled speakers, and the rows of labelled and of tested clips."""
    names = rng.permutation(np.unique(target.speakers))
    n_tested = round(TESTED * len(names))
    tested = np.flatnonzero(np.isin(target.speakers, names[:n_tested]))
    for k in LABELLED:
        labelled = names[n_tested:][:k]
        yield str(k or "all"), np.flatnonzero(np.isin(target.speakers, labelled)), tested


def _draw(target: Target, labelled: NDArray[np.intp], tested: NDArray[np.intp], seed: int) -> Draw:
    y, n_labels = target.targets[labelled], len(target.labels)
    inner = inner_folds(target.speakers[labelled], y, seed)
    probe, left_out = fit_probe(target.vectors[labelled], y, n_labels, inner)
    inside = np.bincount(y, minlength=n_labels) > 0  # labels that the specialist has learned
    temperature = fit(lambda t: softmax(left_out / t), y)
    logits = probe.logits(target.vectors[tested])
    q, q_left_out = softmax(logits), softmax(left_out / temperature)
    posteriors = {SPECIALIST: q}
    weights = {}
    seconds = {
        "alm": (target.alm_posterior, target.scores, np.ones(n_labels, bool)),
        "control": (target.control_posterior, target.control[:, target.known], target.known),
    }
    for name, (p, inputs, known) in seconds.items():
        posteriors[name] = p[tested]
        for rule in RULES:
            posteriors[f"{rule}_{name}"] = pooled(q, p[tested], WEIGHT, rule, inside, known)
        p = tempered(p, fit_tempered(p[labelled], y))
        weights[name], rule = _chosen(q_left_out, p[labelled], inside, known, y)
        calibrated = softmax(logits / temperature)
        posteriors[f"chosen_{name}"] = pooled(calibrated, p[tested], weights[name], rule, inside, known)
        joined = fit_concat(target.vectors[labelled], inputs[labelled], y, n_labels, inner)
        posteriors[f"concat_{name}"] = joined.predict(target.vectors[tested], inputs[tested])
    return Draw(tested, {name: each.argmax(axis=1) for name, each in posteriors.items()}, weights)


def pooled(
    q: NDArray, p: NDArray, weight: float, rule: str, inside: NDArray[np.bool_], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the pool of the specialist's q with the other model's p, both (n, C), at the share of p.

    inside, known: (C,), labels that q and p have. Labels that only one of them has keep its posterior.
    """
    if known.all():
        return fuse(q, p, weight, rule, inside)
    both = inside & known
    return fuse(_among(p, both), q, 1 - weight, rule, both)


def _chosen(
    q: NDArray, p: NDArray, inside: NDArray[np.bool_], known: NDArray[np.bool_], targets: NDArray[np.int64]
) -> tuple[float, str]:
    """Weight and rule of the most likely pool, after a temperature; of ties the smallest weight."""

    def loss(choice: tuple[float, str]) -> float:
        fused = pooled(q, p, *choice, inside, known)
        return nll(tempered(fused, fit_tempered(fused, targets)), targets)

    return min(((float(w), rule) for w in WEIGHTS for rule in RULES), key=loss)


def _among(p: NDArray, labels: NDArray[np.bool_]) -> NDArray:
    p = np.where(labels, p, 0)
    return p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12)


def _summary(target: Target, draws: Sequence[Draw], resamples: int) -> dict[str, Any]:
    rows = np.concatenate([one.rows for one in draws])
    group = np.concatenate([np.full(len(one.rows), n) for n, one in enumerate(draws)])
    n_labels, n_speakers = len(target.labels), len(np.unique(target.speakers))
    values, drawn = {}, {}
    for name in draws[0].predicted:
        of_draws = [metrics.ua(target.targets[one.rows], one.predicted[name], n_labels) for one in draws]
        values[name] = np.array(of_draws)
        drawn[name] = metrics.drawn(
            target.targets[rows],
            np.concatenate([one.predicted[name] for one in draws]),
            target.speakers[rows].tolist(),
            n_labels,
            "ua",
            groups=group,
            n=resamples,
        )
    systems = {}
    for name, ua in values.items():
        gain = ua - values[SPECIALIST]
        systems[name] = {
            "ua": interval(float(ua.mean()), drawn[name], n_speakers),
            "gain": interval(float(gain.mean()), drawn[name] - drawn[SPECIALIST], n_speakers),
            "draws_with_gain": int((gain > 0).sum()),
        }
    weights = {name: [one.weights[name] for one in draws] for name in SECONDS}
    return {
        "systems": systems,
        "chosen_weights": weights,
        "clips": int(np.mean([len(o.rows) for o in draws])),
    }
