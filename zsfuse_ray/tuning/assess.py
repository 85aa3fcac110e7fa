"""How good what was chosen is on speakers that had no part in the choice, beside simpler ways to choose."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.method import metrics
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.stacking import fit_stacked
from zsfuse_ray.tuning.choice import Candidates, Only, Rule, choose
from zsfuse_ray.tuning.evidence import Configuration, Evidence, alm_posterior, predict

METRICS: tuple[Literal["ua", "wa", "macro_f1"], ...] = ("ua", "wa", "macro_f1")
FEW_SPEAKERS = 10  # below, an interval is said to be a rough one
CURVE = np.linspace(0, 1, 51)  # weights of the figure

SPECIALIST, CHOSEN, BEST, STACKED, ALM_BEST = "specialist", "chosen", "best", "stacked", "alm_best"
NAMES = {
    SPECIALIST: "no fusion: specialist alone",
    "single_best": "ALM, single best template",
    "plain_ensemble": "ALM, plain ensemble of all templates",
    ALM_BEST: "ALM, best amplification and templates",
    "no_amplification": "fusion without amplification",
    STACKED: "stacked logistic regression",
    BEST: "fusion, best of all",
    CHOSEN: "fusion, simplest within one standard error",
}


def assess(evidence: Evidence, found: Candidates, config: TuneConfig) -> dict[str, Any]:
    """Return what tune.json says: nested estimates, in-sample values and their gaps, bootstrap, choices.

    Nested: for each fold, the choice is made by the mean over the other folds and predicts this one. No
    speaker is in two folds, and nothing but the choice is learnt, so the other folds need no training of
    their own. In-sample: the best mean over all folds, by the same clips that it is measured on.
    """
    every = Only()
    all_prompts = Only(
        amplified=False,
        prompts=evidence.n_prompts,
        weight=1.0,
        ensemble=found.spaces[0].ensemble,
        words=found.spaces[0].text.words,
    )
    ways: dict[str, tuple[Rule, Only]] = {
        "single_best": ("best", Only(amplified=False, prompts=1, weight=1.0)),
        "plain_ensemble": ("best", all_prompts),
        ALM_BEST: ("best", Only(weight=1.0)),
    }
    if evidence.specialists:
        ways["no_amplification"] = ("best", Only(amplified=False))
        ways[BEST] = ("best", every)
    ways[CHOSEN] = ("one_se", every)
    systems: dict[str, Any] = {}
    posteriors: dict[str, NDArray[np.float64]] = {}
    for name, (rule, only) in ways.items():
        chosen = [choose(found, k, rule, only).configuration for k in range(evidence.n_folds)]
        posteriors[name] = _by_fold(evidence, chosen)
        systems[name] = {
            "in_sample": choose(found, evidence.n_folds, rule, only).score,
            "choices": [one.about(config.templates) for one in chosen],
        }
    if evidence.specialists:
        alm = [choose(found, k, "best", ways[ALM_BEST][1]).configuration for k in range(evidence.n_folds + 1)]
        # of a single specialist nothing is chosen, so it has no gap
        alone = [best_specialist(evidence, k) for k in range(evidence.n_folds + 1)]
        posteriors[STACKED], everywhere = _stacked(evidence, alm, alone)
        systems[STACKED] = {"in_sample": objective(evidence, everywhere)}
        posteriors[SPECIALIST] = np.empty((len(evidence.targets), len(evidence.labels)))
        for k, key in enumerate(alone[:-1]):
            rows = evidence.folds == k
            posteriors[SPECIALIST][rows] = evidence.specialists[key].posterior[rows]
        in_sample = objective(evidence, evidence.specialists[alone[-1]].posterior)
        systems[SPECIALIST] = {"in_sample": in_sample, "choices": alone[:-1]}
    n_speakers = 0 if (evidence.speakers == "").any() else len(set(evidence.speakers))
    draws = {}
    for name in systems:
        p = posteriors[name]
        systems[name] |= {"name": NAMES[name], "nested": objective(evidence, p)}
        systems[name]["gap"] = systems[name]["in_sample"] - systems[name]["nested"]
        systems[name]["nll"] = float(np.mean(_folds(evidence, p, metrics.nll)))
        for metric in METRICS:
            values = drawn(evidence, p, metric, config.resamples) if n_speakers > 1 else None
            systems[name][metric] = _interval(measure(evidence, p, metric), values, n_speakers)
            if metric == "ua":
                draws[name] = values
    differences = {}
    if evidence.specialists:
        for name in (CHOSEN, BEST):
            gain = systems[name]["ua"]["value"] - systems[SPECIALIST]["ua"]["value"]
            values = None if draws[name] is None else draws[name] - draws[SPECIALIST]
            differences[name] = _interval(gain, values, n_speakers)
    return {
        "systems": {name: systems[name] for name in NAMES if name in systems},
        "differences": differences,
        "speakers": n_speakers,
        "chance": 1 / len(evidence.labels),
    }


def best_specialist(evidence: Evidence, left_out: int) -> str:
    """Return the specialist that is best alone on the folds but one (of n_folds: on all)."""
    rows = evidence.folds != left_out
    here = replace(
        evidence,
        targets=evidence.targets[rows],
        folds=np.unique(evidence.folds[rows], return_inverse=True)[1],
    )
    return max(
        evidence.specialists, key=lambda key: objective(here, evidence.specialists[key].posterior[rows])
    )


def final(
    evidence: Evidence,
    found: Candidates,
    config: TuneConfig,
    table: dict[str, Any],
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what tuned.yaml says, and why: the choice on all folds, or w = 0 where fusion has no gain.

    names: what to call the models, by their names in the evidence; by default as the configuration does.
    """
    names = names or config.models
    name = CHOSEN if config.choose == "one_se" or not evidence.specialists else BEST
    choice = choose(found, evidence.n_folds, config.choose)
    chosen, weight = choice.configuration, choice.configuration.weight
    if not evidence.specialists:
        verdict = "There is no specialist, so there is nothing to fuse with."
    else:
        gain = table["differences"][name]
        points = f"{100 * gain['value']:+.1f} points of UA"
        if gain["low"] is not None:
            points += f" (95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
        few = f", though {table['speakers']} speakers are few" if table["speakers"] < FEW_SPEAKERS else ""
        if weight == 0 and config.choose == "one_se":
            verdict = (
                "Fusion does not help: the specialist alone is within one standard error of the best "
                f"({choice.error:.3f} of {config.objective}), so w = 0 is written. "
            )
            best = table["differences"][BEST]
            verdict += (
                f"The best, chosen without regard to simplicity: {100 * best['value']:+.1f} points of UA."
            )
        elif weight == 0:
            verdict = "Fusion does not help: the best weight is 0."
        elif gain["value"] <= 0:
            verdict = f"Fusion does not help: {points} on speakers not chosen on, so w = 0 is written."
            weight = 0.0
        elif gain["low"] is None or gain["low"] <= 0:
            verdict = (
                f"Fusion may help: {points} against the specialist alone, but the interval holds 0{few}."
            )
        else:
            verdict = f"Fusion helps: {points} against the specialist alone{few}."
        alone, fused = (table["systems"][key]["ua"]["value"] for key in (ALM_BEST, name))
        if weight > 0 and alone >= fused:
            verdict += f" The ALM alone does as well: UA {100 * alone:.1f} %, fused {100 * fused:.1f} %."
    space = chosen.space
    specialist = chosen.space.specialist
    if specialist and weight == 0:
        specialist = best_specialist(evidence, evidence.n_folds)
    options = {
        "alm": names[space.alm],
        "specialist": names[specialist] if specialist else "none",
        "labels": list(evidence.labels),
        "templates": [config.templates[t] for t in chosen.templates(evidence.n_prompts)],
        "words": space.text.words,
        "audio_repeats": [space.a],
        "text_repeats": [space.text.b],
        "separator": space.text.separator,
        "ensemble": space.ensemble,
        "temperature": space.temperature,
        "fusion": space.fusion,
        "weight": weight,
    }
    return {"options": options, "verdict": verdict, "rule": name, "in_sample": choice.score}


def weight_curve(evidence: Evidence, config: TuneConfig, chosen: Configuration) -> dict[str, Any]:
    """UA over the weight for each fusion rule, all else as chosen, with its intervals; in-sample."""
    if chosen.space.specialist is None:
        return {}
    specialist = evidence.specialists[chosen.space.specialist]
    rows = np.arange(len(evidence.targets))
    alm = alm_posterior(evidence, chosen, rows)
    n_speakers = 0 if (evidence.speakers == "").any() else len(set(evidence.speakers))
    curve: dict[str, Any] = {"weights": CURVE.tolist()}
    for rule in config.fusions:
        curve[rule] = []
        for w in CURVE:
            p = fuse(specialist.posterior, alm, float(w), rule, specialist.inside)
            values = drawn(evidence, p, "ua", min(config.resamples, 500)) if n_speakers > 1 else None
            curve[rule].append(_interval(measure(evidence, p, "ua"), values, n_speakers))
    return curve


def objective(evidence: Evidence, posteriors: NDArray) -> float:
    """Return what was searched for, the mean over folds; higher is better."""
    if evidence.objective == "nll":
        return -float(np.mean(_folds(evidence, posteriors, metrics.nll)))
    return measure(evidence, posteriors, evidence.objective)


def measure(evidence: Evidence, posteriors: NDArray, metric: str) -> float:
    """Return a metric of posteriors (n, C), the mean over folds."""
    of = getattr(metrics, metric)
    n_labels = len(evidence.labels)
    return float(np.mean(_folds(evidence, posteriors, lambda p, t: of(t, p.argmax(axis=1), n_labels))))


def drawn(
    evidence: Evidence, posteriors: NDArray, metric: metrics.Metric, resamples: int
) -> NDArray[np.float64]:
    """Return the metric on resamples of the speakers, the same ones whatever the posteriors."""
    predicted, speakers = posteriors.argmax(axis=1), list(evidence.speakers)
    n_labels = len(evidence.labels)
    return metrics.drawn(
        evidence.targets, predicted, speakers, n_labels, metric, groups=evidence.folds, n=resamples
    )


def _folds(evidence: Evidence, posteriors: NDArray, of: Any) -> list[float]:
    parts = (evidence.folds == k for k in range(evidence.n_folds))
    return [of(posteriors[rows], evidence.targets[rows]) for rows in parts]


def _by_fold(evidence: Evidence, chosen: list[Configuration]) -> NDArray[np.float64]:
    """Posteriors (n, C) of every clip by the configuration of its fold."""
    found = np.empty((len(evidence.targets), len(evidence.labels)))
    for k, one in enumerate(chosen):
        rows = np.flatnonzero(evidence.folds == k)
        found[rows] = predict(evidence, one, rows)
    return found


def _stacked(
    evidence: Evidence, alm: list[Configuration], alone: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stacked fusion of the best specialist and ALM, fitted on the other folds; and on all, in-sample."""
    n_labels = len(evidence.labels)
    nested = np.empty((len(evidence.targets), n_labels))
    everywhere = nested
    rows = np.arange(len(evidence.targets))
    for k, (one, key) in enumerate(zip(alm, alone, strict=True)):
        specialist = evidence.specialists[key].posterior
        p = alm_posterior(evidence, one, rows)
        train = evidence.folds != k  # for the last, which leaves out none, all
        fitted = fit_stacked(specialist[train], p[train], evidence.targets[train], n_labels)
        if k == evidence.n_folds:
            everywhere = fitted.predict(specialist, p)
        else:
            nested[~train] = fitted.predict(specialist[~train], p[~train])
    return nested, everywhere


def _interval(value: float, draws: NDArray | None, n_speakers: int) -> dict[str, Any]:
    low, high = (None, None) if draws is None else metrics.interval(draws, n_speakers)
    return {"value": value, "low": low, "high": high}
