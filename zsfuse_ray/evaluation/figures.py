"""Figures of merit of every system on one corpus, with intervals over speakers; what the JSON table holds."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.evaluation.heard import Heard
from zsfuse_ray.evaluation.protocol import Protocol
from zsfuse_ray.evaluation.systems import (
    AMPLIFIED,
    CHANCE,
    FUSED,
    FUSED_PLAIN,
    GIVEN,
    NAMES,
    SPECIALIST,
    STACKED,
    SVM,
    WEIGHTS,
    Outcome,
)
from zsfuse_ray.method import metrics

METRICS: tuple[Literal["ua", "wa", "macro_f1", "ece"], ...] = ("ua", "wa", "macro_f1", "ece")
FEW_SPEAKERS = 10  # below, an interval is said to be a rough one


class Predictions:
    """One system's predictions of the test clips of all rounds, and of all prompts where they are averaged.

    group: (m,) the (round, prompt) of each prediction: figures are means over the groups.
    """

    def __init__(self, heard: Heard, protocol: Protocol, tested: Sequence[Outcome], system: str):
        rows, groups, posteriors = [], [], []
        for n, (r, done) in enumerate(zip(protocol.rounds, tested, strict=True)):
            for p, part in enumerate(done.posteriors[system]):
                rows.append(r.test)
                posteriors.append(part)
                groups.append(np.full(len(r.test), n * 1000 + p))
        self.rows, self.group = np.concatenate(rows), np.concatenate(groups)
        self.posteriors = np.concatenate(posteriors)
        self.targets, self.speakers = heard.targets[self.rows], heard.speakers[self.rows]
        self.labels = self.posteriors.argmax(axis=1)
        self.n_labels = len(heard.labels)

    def value(self, metric: str) -> float:
        """The metric, averaged over the groups."""
        return float(np.mean([self._of_group(metric, self.group == g) for g in np.unique(self.group)]))

    def _of_group(self, metric: str, rows: NDArray[np.bool_]) -> float:
        if metric == "ece":
            return metrics.ece(self.posteriors[rows], self.targets[rows])
        return getattr(metrics, metric)(self.targets[rows], self.labels[rows], self.n_labels)

    def draws(self, metric: Any, n: int, seed: int = 0) -> NDArray[np.float64]:
        """The metric on n resamples of the speakers, the same ones for every system."""
        given = self.posteriors if metric == "ece" else self.labels
        return metrics.drawn(
            self.targets, given, list(self.speakers), self.n_labels, metric, groups=self.group, n=n, seed=seed
        )


def figures(
    heard: Heard, protocol: Protocol, tested: Sequence[Outcome], resamples: int, seed: int = 0
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Return the JSON table of one corpus, and each system's drawn UA (for means over corpora).

    Every metric is {"value", "low", "high"}; low and high are None where there are fewer than two speakers.
    """
    systems: dict[str, Any] = {}
    drawn_ua: dict[str, NDArray[np.float64]] = {}
    predictions = {name: Predictions(heard, protocol, tested, name) for name in tested[0].posteriors}
    n_speakers = _speakers(next(iter(predictions.values())).speakers)
    for name, predicted in predictions.items():
        systems[name] = {"name": NAMES[name]}
        for metric in METRICS:
            systems[name][metric] = {"value": predicted.value(metric), "low": None, "high": None}
            if name == CHANCE:
                systems[name][metric]["value"] = _by_chance(predicted)[metric]
            elif n_speakers >= 2:
                draws = predicted.draws(metric, resamples, seed)
                low, high = metrics.interval(draws, n_speakers)
                systems[name][metric] |= {"low": low, "high": high}
                if metric == "ua":
                    drawn_ua[name] = draws
        if name != CHANCE:
            systems[name] |= _details(predicted)
    table = {
        "labels": list(heard.labels),
        "unknown_to_specialist": [
            name
            for name, known in zip(heard.labels, heard.inside, strict=True)
            if heard.specialist is not None and not known
        ],
        "clips": len(predictions[CHANCE].rows),
        "protocol": protocol.about | {"test_speakers": n_speakers, "few_speakers": n_speakers < FEW_SPEAKERS},
        "systems": systems,
        "choices": [done.choices for done in tested],
    }
    if FUSED in systems:
        table["differences"] = {
            f"{FUSED} - {other}": difference(
                predictions[FUSED], predictions[other], n_speakers, resamples, seed
            )
            for other in systems
            if other in (SPECIALIST, AMPLIFIED, STACKED, SVM, FUSED_PLAIN, GIVEN)
        }
        table["verdict"] = verdict(table["differences"][f"{FUSED} - {SPECIALIST}"], tested, n_speakers)
        table["weight_curve"] = {"weights": WEIGHTS.tolist()} | {
            part: {
                rule: np.mean([done.weight_curve[part][rule] for done in tested], axis=0).tolist()
                for rule in tested[0].weight_curve[part]
            }
            for part in ("dev", "test")
        }
    if tested[0].grid:
        table["amplification"] = {"a": list(heard.audio_repeats), "b": list(heard.text_repeats)}
        assert heard.audio is not None
        same = (heard.audio == heard.audio[:, :1]).all(axis=2).mean(axis=0)
        table["amplification"]["same_input"] = same.tolist()
        for part in ("dev", "test"):
            table["amplification"][part] = np.mean([done.grid[part] for done in tested], axis=0).tolist()
    return table, drawn_ua


def difference(a: Predictions, b: Predictions, n_speakers: int, resamples: int, seed: int) -> dict[str, Any]:
    """Paired difference of two systems' UA, on the same drawn speakers."""
    found: dict[str, Any] = {"value": a.value("ua") - b.value("ua"), "low": None, "high": None}
    if n_speakers >= 2:
        draws = a.draws("ua", resamples, seed) - b.draws("ua", resamples, seed)
        found["low"], found["high"] = metrics.interval(draws, n_speakers)
    return found


def verdict(gain: dict[str, Any], tested: Sequence[Outcome], n_speakers: int) -> str:
    """Say in words whether fusion helped."""
    weights = [done.choices[FUSED]["w"] for done in tested]
    points = f"{100 * gain['value']:+.1f} points of UA"
    if gain["low"] is not None:
        points += f" (95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    if not any(weights):
        return "Fusion does not help: the weight chosen on dev is 0, so ZS-Fuse is the specialist alone."
    if gain["value"] <= 0:
        return f"Fusion does not help here: {points} against the specialist alone."
    if gain["low"] is None or gain["low"] <= 0:
        return f"Fusion may help: {points} against the specialist alone, but the interval holds 0."
    few = f", though {n_speakers} test speakers are few" if n_speakers < FEW_SPEAKERS else ""
    return f"Fusion helps: {points} against the specialist alone{few}."


def _details(predicted: Predictions) -> dict[str, Any]:
    recalls = metrics.recalls(predicted.targets, predicted.labels, predicted.n_labels)
    clips, confidence, accuracy = metrics.reliability(predicted.posteriors, predicted.targets)
    return {
        "recall": [None if np.isnan(r) else float(r) for r in recalls],
        "confusion": metrics.confusion(predicted.targets, predicted.labels, predicted.n_labels).tolist(),
        "reliability": {
            "clips": clips.tolist(),
            "confidence": [None if np.isnan(v) else float(v) for v in confidence],
            "accuracy": [None if np.isnan(v) else float(v) for v in accuracy],
        },
    }


def _by_chance(predicted: Predictions) -> dict[str, float]:
    """What naming each label equally often by lot comes to."""
    share = np.bincount(predicted.targets, minlength=predicted.n_labels) / len(predicted.targets)
    guess = 1 / predicted.n_labels
    f1 = 2 * share * guess / (share + guess)
    return {"ua": guess, "wa": guess, "macro_f1": float(f1.mean()), "ece": 0.0}


def _speakers(names: NDArray[np.str_]) -> int:
    """How many speakers, 0 where some are not named."""
    return 0 if (names == "").any() else len(set(names))
