"""Choices of ZS-Fuse on labelled clips: prompt, amplification, pool, weight and temperatures."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.config.evaluate import Objective
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fused_posterior
from zsfuse_ray.method.calibration import fit_tempered, tempered
from zsfuse_ray.method.fusion import RULES, Rule, fuse
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.zeroshot import Ensemble

WEIGHTS = np.linspace(0, 1, 21)
_SAME = 1e-9  # values this close are ties; the first, simpler choice wins


@dataclass(frozen=True)
class Pool:
    """A pool of two posteriors. place: of the second one among those offered; ua, nll: on the clips it was
    chosen on, the latter with the temperature after fusion.
    """

    place: int
    weight: float
    rule: Rule
    temperature: float
    ua: float
    nll: float


@dataclass(frozen=True)
class Fusion:
    """All choices of ZS-Fuse; chosen: the pool it comes from, None if the user gave it."""

    setting: Setting
    weight: float
    specialist_temperature: float = 1.0
    fused_temperature: float = 1.0
    chosen: Pool | None = None

    def record(self) -> dict[str, Any]:
        """The choice as plain values."""
        how = self.setting
        record: dict[str, Any] = {"w": self.weight, "rule": how.fusion, "a": how.a, "b": how.text.b}
        record |= {"temperature": how.temperature, "specialist_temperature": self.specialist_temperature}
        record["fused_temperature"] = self.fused_temperature
        if self.chosen is None:
            return record
        return record | {"dev_ua": self.chosen.ua, "dev_nll": self.chosen.nll}

    def posterior(self, evidence: Evidence, rows: NDArray) -> NDArray[np.float64]:
        """The posteriors (rows, C) as score computes them, whatever the evidence's own temperatures."""
        of_given = evidence.at(self.specialist_temperature)
        return tempered(fused_posterior(of_given, self.setting, self.weight, rows), self.fused_temperature)

    def uncalibrated(self) -> "Fusion":
        """The same fusion with all temperatures 1."""
        return Fusion(replace(self.setting, temperature=1.0), self.weight)


def simple_first(evidence: Evidence, ensemble: Ensemble) -> list[Setting]:
    """Return every (a, b) at temperature 1, fewest copies first."""
    assert evidence.alm is not None
    models = {"alm": next(iter(evidence.alms)), "specialist": next(iter(evidence.specialists), None)}
    pairs = product(evidence.alm.audio, evidence.alm.text)
    ordered = sorted(pairs, key=lambda pair: (pair[0] * pair[1].b, pair[0], pair[1].b))
    return [Setting(a, text, ensemble, next(iter(RULES)), 1.0, **models) for a, text in ordered]


def choose_amplified(
    evidence: Evidence, rows: NDArray, fits: Sequence[Setting], objective: Objective
) -> Setting:
    """Return the best of these settings on these clips; the first of ties."""
    targets = evidence.targets[rows]
    return max(fits, key=lambda s: _merit(alm_posterior(evidence, s, rows), targets, objective))


def choose_prompt(evidence: Evidence, rows: NDArray, fits: Sequence[Setting], objective: Objective) -> int:
    """Return the best single prompt on these clips. fits: the setting of each."""
    targets = evidence.targets[rows]
    merits = [
        _merit(alm_posterior(evidence, fit, rows, [prompt]), targets, objective)
        for prompt, fit in enumerate(fits)
    ]
    return merits.index(max(merits))


def choose_fusion(
    evidence: Evidence,
    rows: NDArray,
    fits: Sequence[Setting],
    objective: Objective,
    rules: Collection[Rule] = RULES.keys(),
) -> Fusion:
    """Return the best fusion on these clips, by one of the rules; of ties the smallest w, then the first
    setting.
    """
    specialist = evidence.specialist
    assert specialist is not None
    alms = [alm_posterior(evidence, setting, rows) for setting in fits]
    given = specialist.posterior[rows], alms, specialist.inside, evidence.targets[rows]
    pool = choose_pool(*given, objective, rules)
    setting = replace(fits[pool.place], fusion=pool.rule)
    return Fusion(setting, pool.weight, specialist.temperature, pool.temperature, pool)


def choose_pool(
    q: NDArray,
    others: Sequence[NDArray],
    inside: NDArray,
    targets: NDArray,
    objective: Objective,
    rules: Collection[Rule] = RULES.keys(),
) -> Pool:
    """Return the best pool of q with one of the other posteriors, all (n, C); of ties the smallest w.

    ua: ties are broken by the likelihood. inside: as in `fuse`. rules: those to choose from.
    """
    best: Pool | None = None
    for weight, (place, p), rule in product(WEIGHTS, enumerate(others), rules):
        fused = fuse(q, p, float(weight), rule, inside)
        its_ua = ua(targets, fused.argmax(axis=1), fused.shape[1])
        if objective == "ua" and best is not None and its_ua < best.ua - _SAME:
            continue  # fitting a temperature takes most of the time
        temperature = fit_tempered(fused, targets)
        its_nll = nll(tempered(fused, temperature), targets)
        pool = Pool(place, float(weight), rule, temperature, its_ua, its_nll)
        if best is None or _rank(pool.ua, pool.nll, objective) > _rank(best.ua, best.nll, objective):
            best = pool
    assert best is not None
    return best


def _merit(posteriors: NDArray, targets: NDArray, objective: Objective) -> tuple[int, ...]:
    its_ua = ua(targets, posteriors.argmax(axis=1), posteriors.shape[1])
    return _rank(its_ua, nll(posteriors, targets), objective)


def _rank(its_ua: float, its_nll: float, objective: Objective) -> tuple[int, ...]:
    """Higher is better; likelihoods are compared to 4 digits, as temperatures are."""
    likely = -round(its_nll / 1e-4)
    return (likely,) if objective == "nll" else (round(its_ua / _SAME), likely)
