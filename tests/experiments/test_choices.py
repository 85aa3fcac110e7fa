"""Choices on labelled clips have the best value of their objective; ties go to the simplest."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.experiments.synthetic import evidence, split_round
from zsfuse_ray.experiments.choices import (
    WEIGHTS,
    choose_amplified,
    choose_fusion,
    choose_pool,
    choose_prompt,
    simple_first,
)
from zsfuse_ray.experiments.evidence import Text
from zsfuse_ray.experiments.settings import alm_posterior, fitted
from zsfuse_ray.method.calibration import fit_tempered, tempered
from zsfuse_ray.method.fusion import RULES, fuse
from zsfuse_ray.method.metrics import nll, ua

DATA = evidence(alm=0.6, specialist=0.7, audio_repeats=(1, 2, 3), text_repeats=(1, 4), templates=5)
DEV = split_round(DATA).dev
TARGETS = DATA.targets[DEV]
ALM, KNOWN = DATA.alms["alm"], DATA.specialists["specialist"]
SETTINGS = simple_first(DATA, "embedding")
FITS = [fitted(DATA, DEV, setting) for setting in SETTINGS]


def values(posteriors: np.ndarray) -> tuple[float, float]:
    return ua(TARGETS, posteriors.argmax(axis=1), 4), nll(posteriors, TARGETS)


@pytest.mark.parametrize("objective", ["ua", "nll"])
def test_chosen_fusion_is_the_best(objective):
    found = []
    for setting, weight, rule in product(FITS, WEIGHTS, RULES):
        alm = alm_posterior(DATA, setting, DEV)
        fused = fuse(KNOWN.posterior[DEV], alm, weight, rule, KNOWN.inside)
        found.append(values(tempered(fused, fit_tempered(fused, TARGETS))))
    best_ua, best_nll = max(each for each, _ in found), min(each for _, each in found)
    chosen = choose_fusion(DATA, DEV, FITS, objective).chosen
    assert chosen is not None
    if objective == "nll":
        assert chosen.nll == pytest.approx(best_nll, abs=1e-4)
    else:
        assert chosen.ua == pytest.approx(best_ua)
        best_of_ties = min(loss for each, loss in found if each > best_ua - 1e-9)
        assert chosen.nll == pytest.approx(best_of_ties, abs=1e-4)


@pytest.mark.parametrize("objective", ["ua", "nll"])
def test_chosen_amplification_and_prompt_are_the_best(objective):
    place = ("ua", "nll").index(objective)
    sign = (1, -1)[place]
    grid = [sign * values(alm_posterior(DATA, fit, DEV))[place] for fit in FITS]
    chosen = FITS.index(choose_amplified(DATA, DEV, FITS, objective))
    assert grid[chosen] == pytest.approx(max(grid), abs=1e-4)
    alone = [fitted(DATA, DEV, SETTINGS[0], [p]) for p in range(5)]
    singles = [sign * values(alm_posterior(DATA, fit, DEV, [p]))[place] for p, fit in enumerate(alone)]
    assert singles[choose_prompt(DATA, DEV, alone, objective)] == pytest.approx(max(singles), abs=1e-4)


@pytest.mark.parametrize("objective", ["ua", "nll"])
def test_ties_go_to_the_simplest_choice(objective):
    prompt = ALM.text[Text(1)][:1]
    alm = replace(
        ALM,
        audio=dict.fromkeys(ALM.audio, ALM.audio[1]),
        text=dict.fromkeys(ALM.text, np.repeat(prompt, 3, axis=0)),
    )
    perfect = replace(KNOWN, logits=8 * np.eye(4)[DATA.targets])
    same = replace(DATA, alms={"alm": alm}, specialists={"specialist": perfect})
    assert [(s.a, s.text.b) for s in SETTINGS] == [(1, 1), (2, 1), (3, 1), (1, 4), (2, 4), (3, 4)]
    fits = [fitted(same, DEV, setting) for setting in SETTINGS]
    assert choose_amplified(same, DEV, fits, objective) == fits[0]
    assert choose_prompt(same, DEV, fits[:1] * 3, objective) == 0
    chosen = choose_fusion(same, DEV, fits, objective)
    assert (chosen.setting, chosen.weight) == (fits[0], 0.0)


def test_ua_ties_are_broken_by_likelihood():
    """Both posteriors have every label right, the second more surely."""
    targets = np.tile(np.arange(3), 20)
    unsure = np.eye(3)[targets] * 0.3 + np.random.default_rng(0).uniform(0.1, 0.3, (60, 3))
    unsure /= unsure.sum(axis=1, keepdims=True)
    sure = np.eye(3)[targets] * 0.97 + 0.01
    pool = choose_pool(unsure, [sure], np.ones(3, bool), targets, "ua")
    assert pool.ua == 1
    assert pool.nll <= nll(tempered(unsure, fit_tempered(unsure, targets)), targets) + 1e-4
