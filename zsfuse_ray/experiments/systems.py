"""The systems of the paper's table: choices are made on dev clips, predictions on test clips."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.evaluate import Objective
from zsfuse_ray.experiments.baseline import svm_posteriors
from zsfuse_ray.experiments.choices import (
    WEIGHTS,
    Fusion,
    choose_amplified,
    choose_fusion,
    choose_pool,
    choose_prompt,
    simple_first,
)
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fitted
from zsfuse_ray.method.calibration import tempered
from zsfuse_ray.method.fusion import RULES, fuse
from zsfuse_ray.method.metrics import ua
from zsfuse_ray.method.stacking import fit_stacked
from zsfuse_ray.method.zeroshot import Ensemble

CHANCE, SVM, SPECIALIST = "chance", "svm", "specialist"
SINGLE_MEAN, SINGLE_BEST = "alm_single_mean", "alm_single_best"
ENSEMBLE, AMPLIFIED = "alm_ensemble", "alm_amplified"
FUSED_PLAIN, FUSED, GIVEN = "fused_plain", "zs_fuse", "zs_fuse_given"
STACKED, FUSED_SVM = "stacked", "zs_fuse_svm"
NAMES = {
    CHANCE: "chance",
    SVM: "SVM on log-mel statistics",
    SPECIALIST: "specialist alone",
    SINGLE_MEAN: "ALM, one prompt (mean over prompts)",
    SINGLE_BEST: "ALM, one prompt (best on dev)",
    ENSEMBLE: "ALM, prompt ensemble",
    AMPLIFIED: "ALM, ensemble + amplification",
    FUSED_PLAIN: "ZS-Fuse without amplification",
    FUSED: "ZS-Fuse",
    GIVEN: "ZS-Fuse as given",
    STACKED: "stacked logistic regression",
    FUSED_SVM: "ZS-Fuse + SVM",
}
CALIBRATED = (SPECIALIST, AMPLIFIED, FUSED)  # reported with and without their temperatures


@dataclass(eq=False)
class Outcome:
    """The result of a round: posteriors of the test clips by system, choices, and curves for figures.

    SINGLE_MEAN has one array of posteriors per prompt. uncalibrated: of the systems of CALIBRATED, with all
    temperatures 1. weight_curve: rule → UA at each of WEIGHTS; grid: (A, B) UA of the amplified ensemble;
    both for "dev" and "test" clips.
    """

    posteriors: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    uncalibrated: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    weight_curve: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    grid: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def run_round(
    evidence: Evidence,
    r: Round,
    ensemble: Ensemble,
    objective: Objective = "nll",
    given: Fusion | None = None,
) -> Outcome:
    """Choose on dev clips, predict test clips; test labels are used only for the curves of the figures.

    ensemble: the rule of all systems with several prompts; given: a fusion to measure unchanged. All
    temperatures are fitted on the dev clips, too.
    """
    done = Outcome()
    n_labels = len(evidence.labels)
    done.posteriors[CHANCE] = [np.full((len(r.test), n_labels), 1 / n_labels)]
    svm = None
    if evidence.features is not None:
        svm = svm_posteriors(evidence.features, evidence.targets, evidence.speakers, r.train, n_labels)
    if svm is not None:
        done.posteriors[SVM], done.choices[SVM] = [svm[0][r.test]], svm[1]
    evidence = evidence.calibrated(r.dev)
    if (specialist := evidence.specialist) is not None:
        done.posteriors[SPECIALIST] = [specialist.posterior[r.test]]
        done.uncalibrated[SPECIALIST] = [specialist.at(1.0).posterior[r.test]]
        done.choices[SPECIALIST] = {"temperature": specialist.temperature}
    if evidence.alms:
        fits = [fitted(evidence, r.dev, setting) for setting in simple_first(evidence, ensemble)]
        _alm(evidence, r, fits, objective, done)
        if evidence.specialists:
            _fused(evidence, r, fits, objective, given, done, None if svm is None else svm[0])
    return done


def _alm(evidence: Evidence, r: Round, fits: Sequence[Setting], objective: Objective, done: Outcome) -> None:
    plain = fits[0]
    prompts = range(evidence.n_prompts)
    alone = [fitted(evidence, r.dev, plain, [p]) for p in prompts]
    single = [alm_posterior(evidence, fit, r.test, [p]) for p, fit in zip(prompts, alone, strict=True)]
    best = choose_prompt(evidence, r.dev, alone, objective)
    done.posteriors |= {SINGLE_MEAN: single, SINGLE_BEST: [single[best]]}
    done.choices[SINGLE_BEST] = {"prompt": best}
    done.posteriors[ENSEMBLE] = [alm_posterior(evidence, plain, r.test)]
    done.choices[ENSEMBLE] = {"temperature": plain.temperature}
    chosen = choose_amplified(evidence, r.dev, fits, objective)
    done.posteriors[AMPLIFIED] = [alm_posterior(evidence, chosen, r.test)]
    done.uncalibrated[AMPLIFIED] = [alm_posterior(evidence, replace(chosen, temperature=1.0), r.test)]
    done.choices[AMPLIFIED] = {"a": chosen.a, "b": chosen.text.b, "temperature": chosen.temperature}
    by_copies = {(fit.a, fit.text): fit for fit in fits}
    alm = evidence.alms[plain.alm]
    for part, rows in (("dev", r.dev), ("test", r.test)):
        done.grid[part] = np.array(
            [
                [_ua(evidence, rows, alm_posterior(evidence, by_copies[a, text], rows)) for text in alm.text]
                for a in alm.audio
            ]
        )


def _fused(
    evidence: Evidence,
    r: Round,
    fits: Sequence[Setting],
    objective: Objective,
    given: Fusion | None,
    done: Outcome,
    svm: NDArray | None,
) -> None:
    specialist = evidence.specialist
    assert specialist is not None
    fusions = {FUSED_PLAIN: choose_fusion(evidence, r.dev, fits[:1], objective)}
    fusions[FUSED] = chosen = choose_fusion(evidence, r.dev, fits, objective)
    if given is not None:
        fusions[GIVEN] = given
    for name, fusion in fusions.items():
        done.posteriors[name] = [fusion.posterior(evidence, r.test)]
        done.choices[name] = fusion.record()
    done.uncalibrated[FUSED] = [chosen.uncalibrated().posterior(evidence, r.test)]
    parts = {"dev": r.dev, "test": r.test}
    alm = {part: alm_posterior(evidence, chosen.setting, rows) for part, rows in parts.items()}
    q = {part: specialist.posterior[rows] for part, rows in parts.items()}
    n_labels, targets = len(evidence.labels), evidence.targets[r.dev]
    stacked = fit_stacked(q["dev"], alm["dev"], targets, n_labels, evidence.speakers[r.dev])
    done.posteriors[STACKED] = [stacked.predict(q["test"], alm["test"])]
    done.choices[STACKED] = {"C": stacked.c}
    for part, rows in parts.items():
        done.weight_curve[part] = {
            rule: [_ua(evidence, rows, fuse(q[part], alm[part], w, rule, specialist.inside)) for w in WEIGHTS]
            for rule in RULES
        }
    if svm is not None:
        everywhere = np.ones(n_labels, bool)
        on_dev = chosen.posterior(evidence, r.dev)
        pool = choose_pool(on_dev, [svm[r.dev]], everywhere, targets, objective)
        fused = fuse(done.posteriors[FUSED][0], svm[r.test], pool.weight, pool.rule, everywhere)
        done.posteriors[FUSED_SVM] = [tempered(fused, pool.temperature)]
        done.choices[FUSED_SVM] = {"w": pool.weight, "rule": pool.rule, "temperature": pool.temperature}


def _ua(evidence: Evidence, rows: NDArray, posteriors: NDArray) -> float:
    return ua(evidence.targets[rows], posteriors.argmax(axis=1), len(evidence.labels))
