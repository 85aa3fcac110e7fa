"""The nested estimate is independent of the speakers it is measured on."""

from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.synthetic import LABELS, config, evidence, searched
from zsfuse_ray.experiments.tune.assess import ALM_BEST, BEST, CHOSEN, SPECIALIST, STACKED, assess
from zsfuse_ray.experiments.tune.choice import choose
from zsfuse_ray.experiments.tune.curves import weight_curve
from zsfuse_ray.experiments.tune.written import written
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.metrics import ua
from zsfuse_ray.method.zeroshot import posterior


def tuned(e, options):
    e = e.calibrated(np.arange(len(e.targets)))
    found = searched(e, options)
    table = assess(e, found, options)
    return found, table, written(e, found, options, table)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_labels_give_chance_nested_and_more_in_sample(seed):
    e = evidence(seed, templates=8, shuffled=True)
    _, table, _ = tuned(e, config(8))
    best = table["systems"][BEST]
    assert best["ua"]["low"] <= 1 / len(LABELS) <= best["ua"]["high"]
    assert best["in_sample"] > 1 / len(LABELS) + 0.03
    assert best["gap"] > 0.02


def test_helpful_fusion_has_a_positive_verdict_and_is_written():
    e = evidence(alm=2.5, specialist=0.8)
    _, table, result = tuned(e, config())
    assert table["differences"][BEST]["low"] > 0
    assert "Fusion helps" in result["verdict"]
    assert result["options"]["weight"] > 0
    systems = table["systems"]
    assert systems[BEST]["ua"]["value"] > systems[SPECIALIST]["ua"]["value"] + 0.05
    assert systems[STACKED]["nested"] > systems[SPECIALIST]["nested"]


def test_uninformative_alm_gets_weight_0():
    e = evidence(1, alm=0.0, specialist=2.0)
    _, table, result = tuned(e, config())
    assert result["options"]["weight"] == 0
    assert "Fusion does not help" in result["verdict"]
    assert table["differences"][CHOSEN]["value"] <= 0


def test_weight_0_is_written_without_gain_on_other_speakers():
    e = evidence(alm=2.5, specialist=0.8)
    options = config(choose="best")
    found = searched(e, options)
    table = assess(e, found, options)
    table["differences"][BEST] = {"value": -0.01, "low": -0.02, "high": 0.0}
    result = written(e, found, options, table)
    assert result["options"]["weight"] == 0
    assert "w = 0 is written" in result["verdict"]


def test_verdict_mentions_an_alm_as_good_as_the_fusion():
    e = evidence(alm=2.5, specialist=0.8)
    options = config()
    found = searched(e, options)
    table = assess(e, found, options)
    table["systems"][ALM_BEST]["ua"]["value"] = 0.3
    assert "The ALM alone" not in written(e, found, options, table)["verdict"]
    table["systems"][ALM_BEST]["ua"]["value"] = 0.999
    assert "The ALM alone does as well: UA 99.9 %" in written(e, found, options, table)["verdict"]


def test_each_fold_is_predicted_by_the_choice_on_the_other_folds():
    e = evidence(alm=2.0)
    options = config()
    before = assess(e, searched(e, options), options)["systems"][BEST]["choices"][0]
    targets = e.targets.copy()
    targets[e.folds == 0] = np.random.default_rng(1).permutation(targets[e.folds == 0])
    other = replace(e, targets=targets)
    assert assess(other, searched(other, options), options)["systems"][BEST]["choices"][0] == before


def test_written_options_reproduce_the_reported_score():
    """Recomputed with the plain functions from the options of tuned.yaml."""
    e = evidence(alm=2.5, specialist=0.8)
    found, _, result = tuned(e, config(temperatures=()))
    options = result["options"]
    e = e.at(options["specialist_temperature"])
    assert options["temperature"] != 1
    rows = [int(template.split()[0]) for template in options["templates"]]
    alm, specialist = e.alms["alm"], e.specialists["specialist"]
    text = next(array for how, array in alm.text.items() if how.b == options["text_repeats"][0])[rows]
    audio = alm.audio[options["audio_repeats"][0]]
    p = posterior(audio, text, alm.scale, options["ensemble"], options["temperature"])
    fused = fuse(specialist.posterior, p, options["weight"], options["fusion"], specialist.inside)
    folds = [
        ua(e.targets[e.folds == k], fused[e.folds == k].argmax(axis=1), len(LABELS)) for k in range(e.n_folds)
    ]
    assert np.mean(folds) == pytest.approx(result["in_sample"], abs=1e-6)
    assert result["in_sample"] == choose(found, e.n_folds, "one_se").score


def test_without_a_specialist_the_alm_is_tuned():
    e = replace(evidence(alm=2.0), specialists={})
    _, table, result = tuned(e, config())
    assert SPECIALIST not in table["systems"]
    assert result["options"]["weight"] == 1
    assert table["systems"][CHOSEN]["nested"] > 0.4


@pytest.mark.parametrize("objective", ["wa", "macro_f1", "nll"])
def test_other_objectives(objective):
    e = evidence(alm=2.0, templates=2)
    found, table, _ = tuned(e, config(2, objective=objective, ensembles="logit", fusions="linear"))
    chosen = choose(found, e.n_folds, "best")
    assert chosen.score == pytest.approx(table["systems"][BEST]["in_sample"])
    if objective == "nll":
        assert table["systems"][BEST]["nested"] == pytest.approx(-table["systems"][BEST]["nll"])


def test_weight_curve_starts_at_the_specialist():
    e = evidence()
    options = config()
    found = searched(e, options)
    best = choose(found, e.n_folds, "best").configuration
    curve = weight_curve(e, options, best)
    alone = assess(e, found, options)["systems"][SPECIALIST]["ua"]["value"]
    for rule in ("linear", "loglinear"):
        assert curve[rule][0]["value"] == pytest.approx(alone)
        assert all(point["low"] <= point["value"] <= point["high"] for point in curve[rule])


def test_best_of_several_models_is_chosen():
    """An uninformative ALM and specialist are among the candidates."""
    good = evidence(alm=2.5, specialist=0.8, templates=2)
    poor = evidence(alm=0.0, specialist=0.0, templates=2)
    e = replace(
        good,
        alms={"alm": poor.alms["alm"], "alm2": good.alms["alm"]},
        specialists={
            "specialist": poor.specialists["specialist"],
            "specialist2": good.specialists["specialist"],
        },
    )
    options = config(2)
    found = searched(e, options)
    assert len({setting.name for setting in found.settings}) == len(found.settings)
    assert {(setting.alm, setting.specialist) for setting in found.settings} == {
        (alm, specialist) for alm in e.alms for specialist in e.specialists
    }
    table = assess(e, found, options)
    assert table["systems"][SPECIALIST]["choices"] == ["specialist2"] * e.n_folds
    names = {key: f"named {key}" for key in (*e.alms, *e.specialists)}
    result = written(e, found, options, table, names)["options"]
    assert (result["alm"], result["specialist"]) == ("named alm2", "named specialist2")
    assert table["differences"][BEST]["low"] > 0
