"""One fold of a protocol: train what is asked on its train clips, choose on them, test all systems."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.experiments.choices import choose_amplified, choose_fusion, simple_first
from zsfuse_ray.experiments.evidence import Evidence, Specialist
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fitted
from zsfuse_ray.experiments.systems import AMPLIFIED, ENSEMBLE, NAMES, SPECIALIST, STACKED
from zsfuse_ray.method import metrics
from zsfuse_ray.method.concat import fit_concat, zero_shot_scores
from zsfuse_ray.method.fusion import RULES
from zsfuse_ray.method.probe import fit_probe, inner_folds
from zsfuse_ray.method.stacking import fit_stacked

CONCAT = "concat"
FOLD_SYSTEMS = {
    SPECIALIST: "specialist",
    ENSEMBLE: NAMES[ENSEMBLE],
    AMPLIFIED: NAMES[AMPLIFIED],
    **{rule: f"fused, {rule} pool" for rule in RULES},
    STACKED: "fused, stacked logistic regression",
    CONCAT: "fused, concat (the paper's)",
}


def system_title(name: str) -> str:
    """A system's name for tables; of one with given copies, "NAME@A,B", also these."""
    system, _, copies = name.partition("@")
    a, _, b = copies.partition(",")
    return f"{FOLD_SYSTEMS[system]}, a = {a}, b = {b}" if copies else FOLD_SYSTEMS[system]


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Posteriors (test, C) of the test clips by system, and what was chosen on the train or dev clips."""

    posteriors: dict[str, NDArray[np.float64]]
    choices: dict[str, Any]


def run_fold(
    evidence: Evidence, vectors: NDArray[np.floating] | None, r: Round, config: EvaluateConfig, seed: int
) -> FoldResult:
    """Train and choose in one round, and predict its test clips.

    vectors: (n, V) of the specialist, for a refitted head and for concat; None if it has none. The seed draws
    the inner folds: of the head's penalty, of the left-out posteriors of train clips that weights and
    temperatures are chosen on, and of the penalties of the trained fusions.
    """
    n_labels = len(evidence.labels)
    inner = inner_folds(evidence.speakers[r.train], evidence.targets[r.train], seed)
    choices: dict[str, Any] = {}
    if evidence.specialist is not None and config.refit != "none":
        assert vectors is not None
        probe, left_out = fit_probe(vectors[r.train], evidence.targets[r.train], n_labels, inner)
        logits = np.zeros((len(evidence.targets), n_labels))
        logits[r.dev] = probe.logits(vectors[r.dev])
        logits[r.train] = left_out
        logits[r.test] = probe.logits(vectors[r.test])
        evidence = replace(
            evidence, specialists={SPECIALIST: Specialist(logits, np.eye(n_labels, dtype=bool))}
        )
        choices[SPECIALIST] = {"C": probe.classifier.c}
    evidence = evidence.calibrated(r.dev)
    done = FoldResult({}, choices)
    if (specialist := evidence.specialist) is not None:
        done.posteriors[SPECIALIST] = specialist.posterior[r.test]
        choices.setdefault(SPECIALIST, {})["temperature"] = specialist.temperature
    if not evidence.alms:
        return done
    fits = [fitted(evidence, r.dev, setting) for setting in simple_first(evidence, config.ensemble)]
    amplified = choose_amplified(evidence, r.dev, fits, config.objective)
    done.posteriors[ENSEMBLE] = alm_posterior(evidence, fits[0], r.test)
    done.posteriors[AMPLIFIED] = alm_posterior(evidence, amplified, r.test)
    choices[AMPLIFIED] = {"a": amplified.a, "b": amplified.text.b, "temperature": amplified.temperature}
    if specialist is not None:
        _fuse(evidence, vectors, r, config, (fits, amplified), inner, done)
    for fit in fits if config.each_copies else ():
        copies = f"@{fit.a},{fit.text.b}"
        done.posteriors[ENSEMBLE + copies] = alm_posterior(evidence, fit, r.test)
        if specialist is not None:
            _fuse(evidence, vectors, r, config, ([fit], fit), inner, done, copies)
    return done


def _fuse(
    evidence: Evidence,
    vectors: NDArray[np.floating] | None,
    r: Round,
    config: EvaluateConfig,
    alm: tuple[list[Setting], Setting],
    inner: NDArray[np.int64],
    done: FoldResult,
    copies: str = "",
) -> None:
    """Add the fused systems; alm: the settings to choose from for a pool, and the one of the others.

    copies: end of their names.
    """
    fits, amplified = alm
    specialist = evidence.specialist
    assert specialist is not None
    n_labels = len(evidence.labels)
    for rule in RULES:
        fusion = choose_fusion(evidence, r.dev, fits, config.objective, (rule,))
        done.posteriors[rule + copies] = fusion.posterior(evidence, r.test)
        done.choices[rule + copies] = fusion.record()
    p = alm_posterior(evidence, amplified, np.arange(len(evidence.targets)))
    # with folds, dev is train, and the inner folds are those of its left-out posteriors
    groups = inner if np.array_equal(r.dev, r.train) else evidence.speakers[r.dev]
    q = specialist.posterior
    stacked = fit_stacked(q[r.dev], p[r.dev], evidence.targets[r.dev], n_labels, groups)
    done.posteriors[STACKED + copies] = stacked.predict(q[r.test], p[r.test])
    done.choices[STACKED + copies] = {"C": stacked.c}
    if vectors is not None:
        one = evidence.alms[amplified.alm]
        text = one.text[amplified.text]
        inputs = zero_shot_scores(one.audio[amplified.a], text, one.scale, ensemble=config.ensemble)
        joined = fit_concat(vectors[r.train], inputs[r.train], evidence.targets[r.train], n_labels, inner)
        done.posteriors[CONCAT + copies] = joined.predict(vectors[r.test], inputs[r.test])
        done.choices[CONCAT + copies] = {"C": joined.classifier.c}


def record_of(tested: FoldResult, evidence: Evidence, r: Round) -> dict[str, Any]:
    """A tested fold as plain values: sizes, metrics by system, choices, and the labels of each test clip."""
    targets, n_labels = evidence.targets[r.test], len(evidence.labels)
    systems, predictions = {}, {}
    for name, posteriors in tested.posteriors.items():
        labels = posteriors.argmax(axis=1)
        predictions[name] = labels.tolist()
        systems[name] = {
            "ua": metrics.ua(targets, labels, n_labels),
            "wa": metrics.wa(targets, labels, n_labels),
            "macro_f1": metrics.macro_f1(targets, labels, n_labels),
            "ece": metrics.ece(posteriors, targets),
        }
    return {
        "clips": {"train": len(r.train), "dev": len(r.dev), "test": len(r.test)},
        "systems": systems,
        "choices": tested.choices,
        "targets": targets.tolist(),
        "speakers": evidence.speakers[r.test].tolist(),
        "predictions": predictions,
    }
