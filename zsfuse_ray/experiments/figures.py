"""Metrics of every system on one corpus, with intervals over speakers, as in evaluation.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.experiments.evidence import Alm, Evidence
from zsfuse_ray.experiments.intervals import (
    FEW_SPEAKERS,
    Drawable,
    Predictions,
    difference,
    interval,
    why_none,
)
from zsfuse_ray.experiments.protocol import Protocol
from zsfuse_ray.experiments.systems import (
    AMPLIFIED,
    CALIBRATED,
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
from zsfuse_ray.experiments.verdicts import of_evaluation
from zsfuse_ray.method import metrics

METRICS: tuple[Drawable, ...] = ("ua", "wa", "macro_f1", "ece")
Draws = dict[str, NDArray[np.float64]]  # UA of each system on resampled speakers


def figures(
    evidence: Evidence, protocol: Protocol, tested: Sequence[Outcome], resamples: int, seed: int = 0
) -> tuple[dict[str, Any], Draws]:
    """Return the JSON table of one corpus, and each system's resampled UA (for means over corpora).

    Every metric is {"value", "low", "high"}; low and high are None for too few speakers.
    """
    systems: dict[str, Any] = {}
    drawn_ua: Draws = {}
    predictions = {
        name: predicted(evidence, protocol, [done.posteriors[name] for done in tested])
        for name in tested[0].posteriors
    }
    n_speakers = predictions[CHANCE].n_speakers
    for name, each in predictions.items():
        systems[name] = {"name": NAMES[name]}
        if name == CHANCE:
            systems[name] |= {metric: interval(v, None, 0) for metric, v in _by_chance(each).items()}
            continue
        for metric in METRICS:
            draws = each.draws(metric, resamples, seed)
            systems[name][metric] = interval(each.value(metric), draws, n_speakers)
            if metric == "ua" and draws is not None:
                drawn_ua[name] = draws
        systems[name] |= _details(each)
    covered = np.ones(len(evidence.labels), bool)
    if evidence.specialist is not None:
        covered = evidence.specialist.inside
    table = {
        "labels": list(evidence.labels),
        "unknown_to_specialist": [
            name for name, inside in zip(evidence.labels, covered, strict=True) if not inside
        ],
        "clips": len(predictions[CHANCE].targets),
        "protocol": protocol.facts
        | {"test_speakers": n_speakers, "few_speakers": n_speakers < FEW_SPEAKERS}
        | {"no_interval": why_none(n_speakers)},
        "systems": systems,
        "calibration": {
            name: {
                "before": _calibration(
                    predicted(evidence, protocol, [done.uncalibrated[name] for done in tested]),
                    resamples,
                    seed,
                ),
                "after": _calibration(predictions[name], resamples, seed),
            }
            for name in CALIBRATED
            if name in tested[0].uncalibrated
        },
        "choices": [done.choices for done in tested],
    }
    if FUSED in systems:
        table["differences"] = {
            f"{FUSED} - {other}": difference(predictions[FUSED], predictions[other], resamples, seed)
            for other in systems
            if other in (SPECIALIST, AMPLIFIED, STACKED, SVM, FUSED_PLAIN, GIVEN)
        }
        weights = [done.choices[FUSED]["w"] for done in tested]
        gain = table["differences"][f"{FUSED} - {SPECIALIST}"]
        table["verdict"] = of_evaluation(gain, weights, n_speakers)
        table["weight_curve"] = {"weights": WEIGHTS.tolist()} | {
            part: {
                rule: np.mean([done.weight_curve[part][rule] for done in tested], axis=0).tolist()
                for rule in tested[0].weight_curve[part]
            }
            for part in ("dev", "test")
        }
    if evidence.alm is not None:
        table["amplification"] = _amplification(evidence.alm, tested)
    return table, drawn_ua


def predicted(
    evidence: Evidence, protocol: Protocol, posteriors: Sequence[Sequence[NDArray[np.float64]]]
) -> Predictions:
    """The predictions on the test clips of all rounds. posteriors: of each round, one array per prompt."""
    rows, groups, every = [], [], []
    for n, (r, parts) in enumerate(zip(protocol.rounds, posteriors, strict=True)):
        for p, part in enumerate(parts):
            rows.append(r.test)
            every.append(part)
            groups.append(np.full(len(r.test), n * 1000 + p))
    place = np.concatenate(rows)
    return Predictions(
        np.concatenate(every), evidence.targets[place], evidence.speakers[place], np.concatenate(groups)
    )


def mean_over_corpora(tables: Mapping[str, Any], draws: Mapping[str, Draws]) -> dict[str, Any]:
    """UA averaged over corpora, for systems present in all; speakers are resampled within each corpus."""
    common = [name for name in NAMES if all(name in table["systems"] for table in tables.values())]
    speakers = sum(table["protocol"]["test_speakers"] for table in tables.values())
    drawn = {
        name: np.mean([of_corpus[name] for of_corpus in draws.values()], axis=0)
        for name in common
        if all(name in of_corpus for of_corpus in draws.values())
    }
    ua = {
        name: interval(
            float(np.mean([table["systems"][name]["ua"]["value"] for table in tables.values()])),
            drawn.get(name),
            speakers,
        )
        for name in common
    }
    lacking = [corpus for corpus, table in tables.items() if table["protocol"]["no_interval"]]
    mean = {"ua": ua, "no_interval": f"none for {', '.join(lacking)}" if lacking else None}
    if FUSED not in common:
        return mean
    draws_of_gain = drawn[FUSED] - drawn[SPECIALIST] if FUSED in drawn else None
    gain = ua[FUSED]["value"] - ua[SPECIALIST]["value"]
    return mean | {"difference": interval(gain, draws_of_gain, speakers)}


def _amplification(alm: Alm, tested: Sequence[Outcome]) -> dict[str, Any]:
    """UA by copies of audio and text, and the share of clips for which copies of the audio are a no-op."""
    table: dict[str, Any] = {"a": list(alm.audio), "b": [text.b for text in alm.text]}
    once = alm.audio[1]
    table["same_input"] = [float((audio == once).all(axis=1).mean()) for audio in alm.audio.values()]
    for part in ("dev", "test"):
        table[part] = np.mean([done.grid[part] for done in tested], axis=0).tolist()
    return table


def _details(predictions: Predictions) -> dict[str, Any]:
    given = (predictions.targets, predictions.labels, predictions.n_labels)
    return {
        "nll": predictions.value("nll"),
        "recall": [None if np.isnan(r) else float(r) for r in metrics.recalls(*given)],
        "confusion": metrics.confusion(*given).tolist(),
        "reliability": _reliability(predictions),
    }


def _calibration(predictions: Predictions, resamples: int, seed: int) -> dict[str, Any]:
    """ECE, NLL and the reliability curve of posteriors."""
    return {
        "ece": predictions.interval("ece", resamples, seed),
        "nll": predictions.value("nll"),
        "reliability": _reliability(predictions),
    }


def _reliability(predictions: Predictions) -> dict[str, Any]:
    clips, confidence, accuracy = metrics.reliability(predictions.posteriors, predictions.targets)
    return {
        "clips": clips.tolist(),
        "confidence": [None if np.isnan(v) else float(v) for v in confidence],
        "accuracy": [None if np.isnan(v) else float(v) for v in accuracy],
    }


def _by_chance(predictions: Predictions) -> dict[str, float]:
    """Expected metrics of uniform random predictions."""
    share = np.bincount(predictions.targets, minlength=predictions.n_labels) / len(predictions.targets)
    guess = 1 / predictions.n_labels
    f1 = 2 * share * guess / (share + guess)
    return {"ua": guess, "wa": guess, "macro_f1": float(f1.mean()), "ece": 0.0}
