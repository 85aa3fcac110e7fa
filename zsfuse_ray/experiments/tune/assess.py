"""Nested estimates: how good a choice is on speakers it was not made on, and simpler systems to compare."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.intervals import Drawable, Predictions, difference, why_none
from zsfuse_ray.experiments.settings import alm_posterior
from zsfuse_ray.experiments.tune.choice import Candidates, Only, Rule, choose
from zsfuse_ray.experiments.tune.configurations import Configuration
from zsfuse_ray.method.search import Objective
from zsfuse_ray.method.stacking import fit_stacked

METRICS: tuple[Drawable, ...] = ("ua", "wa", "macro_f1")

SPECIALIST, CHOSEN, BEST, STACKED, ALM_BEST = "specialist", "chosen", "best", "stacked", "alm_best"
NAMES = {
    SPECIALIST: "no fusion: specialist alone",
    "single_best": "ALM, single best template",
    "plain_ensemble": "ALM, plain ensemble of all templates",
    ALM_BEST: "ALM, best amplification and templates",
    "no_amplification": "fusion without amplification",
    STACKED: "stacked logistic regression",
    BEST: "fusion, best configuration",
    CHOSEN: "fusion, simplest within one standard error",
}


@dataclass(frozen=True, eq=False)
class _Estimate:
    """Posteriors (n, C) of clips by choices made without their fold, the in-sample score, and the choices."""

    posteriors: NDArray[np.float64]
    in_sample: float
    choices: list[Any] | None = None


def assess(evidence: Evidence, candidates: Candidates, config: TuneConfig) -> dict[str, Any]:
    """Return the estimates for tune.json: nested and in-sample scores, their gaps, intervals, choices.

    Nested: for each fold, the choice made by the mean over the other folds predicts this fold. No speaker is
    in two folds. Only the choice is made per fold; the temperatures of the models, one number each, are those
    of all clips. In-sample: the best mean over all folds, measured on the clips it was chosen on.
    """
    estimates: dict[str, _Estimate] = {}
    for name, (rule, only) in _ways(evidence, candidates).items():
        chosen = [choose(candidates, k, rule, only) for k in range(evidence.n_folds + 1)]
        each = [choice.configuration for choice in chosen[:-1]]
        records = [one.record(config.templates) for one in each]
        estimates[name] = _Estimate(_by_fold(evidence, each), chosen[-1].score, records)
        if name == ALM_BEST and evidence.specialists:
            alm = [choice.configuration for choice in chosen]
            estimates |= _without_search(evidence, alm, config.objective)
    predictions = {name: _predictions(evidence, one.posteriors) for name, one in estimates.items()}
    systems = {}
    for name in (name for name in NAMES if name in estimates):
        one, predicted = estimates[name], predictions[name]
        nested = score(predicted, config.objective)
        systems[name] = {"in_sample": one.in_sample}
        systems[name] |= {} if one.choices is None else {"choices": one.choices}
        systems[name] |= {"name": NAMES[name], "nested": nested, "gap": one.in_sample - nested}
        systems[name]["nll"] = predicted.value("nll")
        systems[name] |= {metric: predicted.interval(metric, config.resamples) for metric in METRICS}
    gains = (CHOSEN, BEST) if evidence.specialists else ()
    return {
        "systems": systems,
        "differences": {
            name: difference(predictions[name], predictions[SPECIALIST], config.resamples) for name in gains
        },
        "speakers": predictions[CHOSEN].n_speakers,
        "no_interval": why_none(predictions[CHOSEN].n_speakers),
        "chance": 1 / len(evidence.labels),
    }


def best_specialist(evidence: Evidence, left_out: int, objective: Objective) -> str:
    """Return the best single specialist on all folds except ``left_out`` (n_folds: on all folds)."""
    rows = np.flatnonzero(evidence.folds != left_out)

    def alone(key: str) -> float:
        return score(_predictions(evidence, evidence.specialists[key].posterior, rows), objective)

    return max(evidence.specialists, key=alone)


def score(predictions: Predictions, objective: Objective) -> float:
    """Return the objective, the mean over folds; higher is better (NLL is negated)."""
    value = predictions.value(objective)
    return -value if objective == "nll" else value


def _predictions(evidence: Evidence, posteriors: NDArray, rows: Any = slice(None)) -> Predictions:
    return Predictions(
        posteriors[rows], evidence.targets[rows], evidence.speakers[rows], evidence.folds[rows]
    )


def _ways(evidence: Evidence, candidates: Candidates) -> dict[str, tuple[Rule, Only]]:
    """How each system is chosen: its rule and its restriction."""
    first = candidates.settings[0]
    all_prompts = Only(
        amplified=False,
        prompts=evidence.n_prompts,
        weight=1.0,
        ensemble=first.ensemble,
        words=first.text.words,
    )
    ways: dict[str, tuple[Rule, Only]] = {
        "single_best": ("best", Only(amplified=False, prompts=1, weight=1.0)),
        "plain_ensemble": ("best", all_prompts),
        ALM_BEST: ("best", Only(weight=1.0)),
    }
    if evidence.specialists:
        ways["no_amplification"] = ("best", Only(amplified=False))
        ways[BEST] = ("best", Only())
    ways[CHOSEN] = ("one_se", Only())
    return ways


def _by_fold(evidence: Evidence, chosen: list[Configuration]) -> NDArray[np.float64]:
    """Posteriors (n, C) of every clip by the configuration of its fold."""
    posteriors = np.empty((len(evidence.targets), len(evidence.labels)))
    for k, one in enumerate(chosen):
        rows = np.flatnonzero(evidence.folds == k)
        posteriors[rows] = one.posterior(evidence, rows)
    return posteriors


def _without_search(
    evidence: Evidence, alm: list[Configuration], objective: Objective
) -> dict[str, _Estimate]:
    """The specialist alone; and stacked fusion of the best specialist and ALM, fitted on the other folds.

    alm: the best ALM configuration without each fold, then on all folds.
    """
    n_labels = len(evidence.labels)
    # with one specialist nothing is chosen, so its gap is 0
    keys = [best_specialist(evidence, k, objective) for k in range(evidence.n_folds + 1)]
    alone, stacked = (np.empty((len(evidence.targets), n_labels)) for _ in range(2))
    everywhere = stacked
    for k, (one, key) in enumerate(zip(alm, keys, strict=True)):
        specialist = evidence.specialists[key].posterior
        every = np.arange(len(evidence.targets))
        p = alm_posterior(evidence, one.setting, every, one.templates(evidence.n_prompts))
        train = evidence.folds != k  # the last k leaves out no fold
        targets, speakers = evidence.targets[train], evidence.speakers[train]
        model = fit_stacked(specialist[train], p[train], targets, n_labels, speakers)
        if k == evidence.n_folds:
            everywhere = model.predict(specialist, p)
        else:
            stacked[~train] = model.predict(specialist[~train], p[~train])
            alone[~train] = specialist[~train]
    best = evidence.specialists[keys[-1]].posterior
    in_sample = [score(_predictions(evidence, p), objective) for p in (best, everywhere)]
    return {
        SPECIALIST: _Estimate(alone, in_sample[0], keys[:-1]),
        STACKED: _Estimate(stacked, in_sample[1]),
    }
