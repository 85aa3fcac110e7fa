"""The systems of the paper's table: choices are made on dev clips, predictions on test clips."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fminbound

from zsfuse_ray.experiments.baseline import svm_posteriors
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fused_posterior
from zsfuse_ray.method.fusion import RULES, fuse
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.stacking import fit_stacked
from zsfuse_ray.method.zeroshot import Ensemble

WEIGHTS = np.linspace(0, 1, 21)
_SAME = 1e-9  # UAs this close are ties; the simpler choice wins

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


@dataclass(frozen=True)
class Fusion:
    """All choices of ZS-Fuse; dev_ua: the UA it was chosen by, None if the user gave it."""

    setting: Setting
    weight: float
    dev_ua: float | None = None

    def record(self) -> dict[str, Any]:
        """The choice as plain values."""
        how = self.setting
        record = {"w": self.weight, "rule": how.fusion, "a": how.a, "b": how.text.b}
        record["temperature"] = how.temperature
        return record if self.dev_ua is None else record | {"dev_ua": self.dev_ua}


@dataclass(eq=False)
class Outcome:
    """The result of a round: posteriors of the test clips by system, choices, and curves for figures.

    SINGLE_MEAN has one array of posteriors per prompt. weight_curve: rule → UA at each of WEIGHTS; grid:
    (A, B) UA of the amplified ensemble; both for "dev" and "test" clips.
    """

    posteriors: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    weight_curve: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    grid: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def simple_first(evidence: Evidence, ensemble: Ensemble) -> list[Setting]:
    """Return every (a, b) at temperature 1, fewest copies first."""
    assert evidence.alm is not None
    models = {"alm": next(iter(evidence.alms)), "specialist": next(iter(evidence.specialists), None)}
    pairs = product(evidence.alm.audio, evidence.alm.text)
    ordered = sorted(pairs, key=lambda pair: (pair[0] * pair[1].b, pair[0], pair[1].b))
    return [Setting(a, text, ensemble, next(iter(RULES)), 1.0, **models) for a, text in ordered]


def fitted(
    evidence: Evidence, rows: NDArray, setting: Setting, prompts: Sequence[int] | None = None
) -> Setting:
    """Return the setting with the maximum-likelihood temperature on these clips."""

    def loss(log_t: float) -> float:
        tried = replace(setting, temperature=float(np.exp(log_t)))
        return nll(alm_posterior(evidence, tried, rows, prompts), evidence.targets[rows])

    return replace(setting, temperature=float(np.exp(fminbound(loss, *np.log([0.01, 100]), xtol=1e-3))))


def choose_amplified(evidence: Evidence, rows: NDArray, settings: Sequence[Setting]) -> Setting:
    """Return the setting with the best UA on these clips; the first of ties."""
    return max(settings, key=lambda s: round(_ua(evidence, rows, alm_posterior(evidence, s, rows)) / _SAME))


def choose_prompt(evidence: Evidence, rows: NDArray, setting: Setting) -> int:
    """Return the single prompt with the best UA on these clips."""
    prompts = range(evidence.n_prompts)
    return int(np.argmax([_ua(evidence, rows, alm_posterior(evidence, setting, rows, [p])) for p in prompts]))


def choose_fusion(evidence: Evidence, rows: NDArray, settings: Sequence[Setting]) -> Fusion:
    """Return the fusion with the best UA on these clips; of ties the smallest w, then the first setting."""
    specialist = evidence.specialist
    assert specialist is not None
    best, best_ua = None, -1.0
    posteriors = [(setting, alm_posterior(evidence, setting, rows)) for setting in settings]
    for weight, (setting, alm), rule in product(WEIGHTS, posteriors, RULES):
        fused = fuse(specialist.posterior[rows], alm, float(weight), rule, specialist.inside)
        dev_ua = _ua(evidence, rows, fused)
        if dev_ua > best_ua + _SAME:
            best, best_ua = Fusion(replace(setting, fusion=rule), float(weight), dev_ua), dev_ua
    assert best is not None
    return best


def run_round(evidence: Evidence, r: Round, ensemble: Ensemble, given: Fusion | None = None) -> Outcome:
    """Choose on dev clips, predict test clips; test labels are used only for the curves of the figures.

    ensemble: the rule of all systems with several prompts; given: a fusion to measure unchanged.
    """
    done = Outcome()
    n_labels = len(evidence.labels)
    done.posteriors[CHANCE] = [np.full((len(r.test), n_labels), 1 / n_labels)]
    svm = None
    if evidence.features is not None:
        svm = svm_posteriors(evidence.features, evidence.targets, evidence.speakers, r.train, n_labels)
    if svm is not None:
        done.posteriors[SVM], done.choices[SVM] = [svm[0][r.test]], svm[1]
    if evidence.specialist is not None:
        done.posteriors[SPECIALIST] = [evidence.specialist.posterior[r.test]]
    if evidence.alms:
        settings = simple_first(evidence, ensemble)
        _alm(evidence, r, settings, done)
        if evidence.specialists:
            _fused(evidence, r, settings, given, done, None if svm is None else svm[0])
    return done


def _alm(evidence: Evidence, r: Round, settings: Sequence[Setting], done: Outcome) -> None:
    once = settings[0]
    prompts = range(evidence.n_prompts)
    fits = [fitted(evidence, r.dev, once, [p]) for p in prompts]
    single = [alm_posterior(evidence, fit, r.test, [p]) for p, fit in zip(prompts, fits, strict=True)]
    best = choose_prompt(evidence, r.dev, once)
    done.posteriors |= {SINGLE_MEAN: single, SINGLE_BEST: [single[best]]}
    done.choices[SINGLE_BEST] = {"prompt": best}
    plain = fitted(evidence, r.dev, once)
    done.posteriors[ENSEMBLE] = [alm_posterior(evidence, plain, r.test)]
    done.choices[ENSEMBLE] = {"temperature": plain.temperature}
    chosen = fitted(evidence, r.dev, choose_amplified(evidence, r.dev, settings))
    done.posteriors[AMPLIFIED] = [alm_posterior(evidence, chosen, r.test)]
    done.choices[AMPLIFIED] = {"a": chosen.a, "b": chosen.text.b, "temperature": chosen.temperature}
    alm = evidence.alms[once.alm]
    grid = [[replace(once, a=a, text=text) for text in alm.text] for a in alm.audio]
    for part, rows in (("dev", r.dev), ("test", r.test)):
        done.grid[part] = np.array(
            [[_ua(evidence, rows, alm_posterior(evidence, s, rows)) for s in line] for line in grid]
        )


def _fused(
    evidence: Evidence,
    r: Round,
    settings: Sequence[Setting],
    given: Fusion | None,
    done: Outcome,
    svm: NDArray | None,
) -> None:
    specialist = evidence.specialist
    assert specialist is not None
    fits = [fitted(evidence, r.dev, setting) for setting in settings]
    fusions = {FUSED_PLAIN: choose_fusion(evidence, r.dev, fits[:1])}
    fusions[FUSED] = chosen = choose_fusion(evidence, r.dev, fits)
    if given is not None:
        fusions[GIVEN] = given
    for name, fusion in fusions.items():
        done.posteriors[name] = [fused_posterior(evidence, fusion.setting, fusion.weight, r.test)]
        done.choices[name] = fusion.record()
    parts = {"dev": r.dev, "test": r.test}
    alm = {part: alm_posterior(evidence, chosen.setting, rows) for part, rows in parts.items()}
    q = {part: specialist.posterior[rows] for part, rows in parts.items()}
    stacked = fit_stacked(q["dev"], alm["dev"], evidence.targets[r.dev], len(evidence.labels))
    done.posteriors[STACKED] = [stacked.predict(q["test"], alm["test"])]
    for part, rows in parts.items():
        done.weight_curve[part] = {
            rule: [_ua(evidence, rows, fuse(q[part], alm[part], w, rule, specialist.inside)) for w in WEIGHTS]
            for rule in RULES
        }
    if svm is not None:
        everywhere = np.ones(len(evidence.labels), bool)
        on_dev = fused_posterior(evidence, chosen.setting, chosen.weight, r.dev)
        weight, rule = max(
            product(WEIGHTS, RULES),  # the first of ties: the smallest SVM weight
            key=lambda wr: round(_ua(evidence, r.dev, fuse(on_dev, svm[r.dev], *wr, everywhere)) / _SAME),
        )
        fused = fuse(done.posteriors[FUSED][0], svm[r.test], float(weight), rule, everywhere)
        done.posteriors[FUSED_SVM] = [fused]
        done.choices[FUSED_SVM] = {"w": float(weight), "rule": rule}


def _ua(evidence: Evidence, rows: NDArray, posteriors: NDArray) -> float:
    return ua(evidence.targets[rows], posteriors.argmax(axis=1), len(evidence.labels))
