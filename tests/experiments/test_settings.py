"""A setting's posteriors equal those of the method's functions."""

from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.synthetic import evidence
from zsfuse_ray.experiments.evidence import Specialist, Text
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fitted, fused_posterior
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.metrics import nll
from zsfuse_ray.method.zeroshot import posterior, softmax

DATA = evidence()
ALM, KNOWN = DATA.alms["alm"], DATA.specialists["specialist"]
SETTING = Setting(2, Text(1), "logit", "loglinear", 1.5)
ROWS = np.arange(10, 50)


@pytest.mark.parametrize("prompts", [None, [2], [0, 3]])
def test_alm_posterior_uses_the_chosen_copies_and_prompts(prompts):
    text = ALM.text[Text(1)] if prompts is None else ALM.text[Text(1)][prompts]
    expected = posterior(ALM.audio[2][ROWS], text, ALM.scale, "logit", 1.5)
    np.testing.assert_array_equal(alm_posterior(DATA, SETTING, ROWS, prompts), expected)


def test_fused_posterior_uses_the_chosen_rule():
    alm = alm_posterior(DATA, SETTING, ROWS, [0, 1])
    expected = fuse(KNOWN.posterior[ROWS], alm, 0.3, "loglinear", KNOWN.inside)
    np.testing.assert_array_equal(fused_posterior(DATA, SETTING, 0.3, ROWS, [0, 1]), expected)


def test_weight_0_is_the_specialist_if_it_covers_all_labels():
    np.testing.assert_array_equal(fused_posterior(DATA, SETTING, 0.0, ROWS), KNOWN.posterior[ROWS])
    part = replace(KNOWN, mapping=KNOWN.mapping & [True, True, False, True])
    lacking = replace(DATA, specialists={"specialist": part})
    fused = fused_posterior(lacking, SETTING, 0.0, ROWS)
    np.testing.assert_allclose(fused[:, 2], alm_posterior(DATA, SETTING, ROWS)[:, 2])


def test_without_specialist_the_posterior_is_the_alms():
    alone = replace(SETTING, specialist=None)
    expected = alm_posterior(DATA, SETTING, ROWS)
    np.testing.assert_array_equal(fused_posterior(DATA, alone, 0.3, ROWS), expected)


def test_temperature_maximises_the_likelihood():
    """Against a grid; of averaged posteriors too, which are no softmax."""
    for ensemble in ("embedding", "logit", "probability"):
        setting = replace(SETTING, ensemble=ensemble, temperature=1.0)
        found = fitted(DATA, ROWS, setting)
        assert found == replace(setting, temperature=found.temperature)
        given = (ALM.audio[2][ROWS], ALM.text[Text(1)], ALM.scale, ensemble)
        grid = [nll(posterior(*given, t), DATA.targets[ROWS]) for t in np.geomspace(0.05, 50, 200)]
        assert nll(posterior(*given, found.temperature), DATA.targets[ROWS]) <= min(grid) + 1e-6


def test_temperature_of_the_specialist_is_fitted_on_labels_it_covers():
    e = evidence(n_each=60)
    rows = np.arange(100, 500)
    found = e.calibrated(rows).specialists["specialist"]
    logits = e.specialists["specialist"].logits
    grid = [nll(softmax(logits[rows] / t), e.targets[rows]) for t in np.geomspace(0.05, 50, 200)]
    assert nll(found.posterior[rows], e.targets[rows]) <= min(grid) + 1e-6
    assert e.at(found.temperature).specialists["specialist"].temperature == found.temperature
    part = replace(e.specialists["specialist"], mapping=found.mapping & [True, True, False, True])
    covered = rows[e.targets[rows] != 2]
    again = part.fitted(e.targets, rows)
    assert again.temperature == part.fitted(e.targets, covered).temperature
    assert (again.posterior[:, 2] == 0).all()


def test_labels_that_are_merged_are_merged_after_the_softmax():
    logits = np.random.default_rng(0).normal(size=(6, 3))
    merged = Specialist(logits, np.array([[1, 0], [1, 0], [0, 1]], bool), 2.0)
    expected = softmax(logits / 2)
    np.testing.assert_allclose(merged.posterior[:, 0], expected[:, :2].sum(axis=1))


def test_names_differ_in_all_options_but_the_separator():
    others = [
        replace(SETTING, a=3),
        replace(SETTING, text=Text(2)),
        replace(SETTING, text=Text(1, words=2)),
        replace(SETTING, ensemble="embedding"),
        replace(SETTING, fusion="linear"),
        replace(SETTING, temperature=2.0),
        replace(SETTING, alm="alm2"),
        replace(SETTING, specialist="specialist2"),
    ]
    assert len({SETTING.name, *(other.name for other in others)}) == 9
    assert replace(SETTING, text=Text(1, separator=". ")).name == SETTING.name
