from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.experiments.synthetic import evidence, split_round
from zsfuse_ray.experiments import systems
from zsfuse_ray.experiments.choices import Fusion, simple_first
from zsfuse_ray.experiments.evidence import Evidence, Text
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fitted
from zsfuse_ray.experiments.systems import (
    AMPLIFIED,
    CALIBRATED,
    ENSEMBLE,
    FUSED,
    FUSED_SVM,
    GIVEN,
    NAMES,
    SINGLE_BEST,
    SINGLE_MEAN,
    SPECIALIST,
    STACKED,
    Outcome,
    run_round,
)
from zsfuse_ray.method.calibration import tempered
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.labelling import Labelling, posteriors
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.stacking import fit_stacked

COPIES = {"audio_repeats": (1, 2, 3), "text_repeats": (1, 4), "templates": 5}
DATA = evidence(alm=0.6, specialist=0.7, **COPIES)
ROUND = split_round(DATA)
ALM, KNOWN = DATA.alms["alm"], DATA.specialists["specialist"]
SETTINGS = simple_first(DATA, "embedding")


def outcome(data: Evidence, r: Round = ROUND, given: Fusion | None = None, objective="nll") -> Outcome:
    return run_round(data, r, "embedding", objective, given)


DONE = outcome(DATA)
CALIBRATED_DATA = DATA.calibrated(ROUND.dev)
Q = CALIBRATED_DATA.specialists["specialist"].posterior


def test_systems_are_compared_at_their_own_temperatures():
    for name in (SPECIALIST, ENSEMBLE, AMPLIFIED):
        assert DONE.choices[name]["temperature"] != 1


def how(choice: dict) -> Setting:
    """The setting of a choice's record."""
    return Setting(choice["a"], Text(choice["b"]), "embedding", choice["rule"], choice["temperature"])


def ua_of(posteriors: np.ndarray, rows: np.ndarray) -> float:
    return ua(DATA.targets[rows], posteriors.argmax(axis=1), 4)


def test_every_system_of_the_table_is_present():
    assert set(DONE.posteriors) == set(NAMES) - {GIVEN}
    for name, parts in DONE.posteriors.items():
        assert len(parts) == (5 if name == SINGLE_MEAN else 1)
        for part in parts:
            assert part.shape == (len(ROUND.test), 4)
            np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-9)


def test_labels_of_test_speakers_change_neither_choices_nor_predictions():
    targets = DATA.targets.copy()
    targets[ROUND.test] = np.random.default_rng(0).permutation(targets[ROUND.test])
    assert (targets != DATA.targets).any()
    shuffled = outcome(replace(DATA, targets=targets))
    assert shuffled.choices == DONE.choices
    for name, parts in DONE.posteriors.items():
        for part, again in zip(parts, shuffled.posteriors[name], strict=True):
            assert (part == again).all(), name
    assert shuffled.weight_curve["dev"] == DONE.weight_curve["dev"]
    assert shuffled.weight_curve["test"] != DONE.weight_curve["test"]


def test_audio_of_test_speakers_changes_no_choice():
    rng = np.random.default_rng(0)
    audio, features = {a: array.copy() for a, array in ALM.audio.items()}, DATA.features.copy()
    for array in (*audio.values(), features):
        array[ROUND.test] = rng.normal(size=array[ROUND.test].shape)
    other = replace(DATA, alms={"alm": replace(ALM, audio=audio)}, features=features)
    assert outcome(other).choices == DONE.choices


def test_labels_of_dev_speakers_change_choices():
    targets = DATA.targets.copy()
    targets[ROUND.dev] = np.random.default_rng(0).permutation(targets[ROUND.dev])
    assert outcome(replace(DATA, targets=targets)).choices[FUSED] != DONE.choices[FUSED]


def test_fusion_is_calibrated_before_and_after():
    chosen = DONE.choices[FUSED]
    assert 0 < chosen["w"] < 1
    assert chosen["specialist_temperature"] == CALIBRATED_DATA.specialists["specialist"].temperature != 1
    assert chosen["temperature"] == fitted(DATA, ROUND.dev, how(chosen)).temperature
    alm = alm_posterior(DATA, how(chosen), ROUND.test)
    expected = fuse(Q[ROUND.test], alm, chosen["w"], chosen["rule"], KNOWN.inside)
    expected = tempered(expected, chosen["fused_temperature"])
    np.testing.assert_allclose(DONE.posteriors[FUSED][0], expected, atol=1e-12)
    np.testing.assert_array_equal(DONE.posteriors[SPECIALIST][0], Q[ROUND.test])


def test_uncalibrated_posteriors_have_temperature_1():
    assert set(DONE.uncalibrated) == set(CALIBRATED)
    np.testing.assert_array_equal(DONE.uncalibrated[SPECIALIST][0], KNOWN.posterior[ROUND.test])
    chosen = DONE.choices[AMPLIFIED]
    plain = Setting(chosen["a"], Text(chosen["b"]), "embedding", "linear", 1.0)
    np.testing.assert_array_equal(DONE.uncalibrated[AMPLIFIED][0], alm_posterior(DATA, plain, ROUND.test))
    chosen = DONE.choices[FUSED]
    alm = alm_posterior(DATA, replace(how(chosen), temperature=1.0), ROUND.test)
    expected = fuse(KNOWN.posterior[ROUND.test], alm, chosen["w"], chosen["rule"], KNOWN.inside)
    np.testing.assert_array_equal(DONE.uncalibrated[FUSED][0], expected)


def test_temperatures_of_other_speakers_improve_the_likelihood():
    data = evidence(3, alm=0.6, specialist=0.7, n_each=80, **COPIES)
    r = split_round(data)
    done = outcome(data, r)
    for name in CALIBRATED:
        before, after = (of[name][0] for of in (done.uncalibrated, done.posteriors))
        assert nll(after, data.targets[r.test]) < nll(before, data.targets[r.test]) - 0.01, name


def test_chosen_amplification_and_prompt_have_the_best_dev_ua():
    done = outcome(DATA, objective="ua")
    grid = {(s.a, s.text.b): ua_of(alm_posterior(DATA, s, ROUND.dev), ROUND.dev) for s in SETTINGS}
    chosen = done.choices[AMPLIFIED]
    assert grid[chosen["a"], chosen["b"]] == max(grid.values())
    expected = [grid[pair] for pair in product((1, 2, 3), (1, 4))]
    np.testing.assert_allclose(done.grid["dev"].ravel(), expected)
    singles = [ua_of(alm_posterior(DATA, SETTINGS[0], ROUND.dev, [p]), ROUND.dev) for p in range(5)]
    assert singles[done.choices[SINGLE_BEST]["prompt"]] == max(singles)


@pytest.mark.parametrize(("alm", "specialist"), [(0.0, 1.5), (2.0, 0.0)])
def test_uninformative_model_hardly_lowers_ua(alm, specialist):
    data = evidence(1, alm=alm, specialist=specialist, n_each=80, **COPIES)
    test = split_round(data).test
    done = outcome(data, split_round(data))
    found = {
        name: ua(data.targets[test], parts[0].argmax(axis=1), 4) for name, parts in done.posteriors.items()
    }
    assert found[FUSED] > max(found[SPECIALIST], found[AMPLIFIED]) - 0.03


def test_stacked_is_fitted_on_dev():
    chosen = DONE.choices[FUSED]
    alm = {
        part: alm_posterior(DATA, how(chosen), rows)
        for part, rows in (("dev", ROUND.dev), ("test", ROUND.test))
    }
    speakers = DATA.speakers[ROUND.dev]
    model = fit_stacked(Q[ROUND.dev], alm["dev"], DATA.targets[ROUND.dev], 4, speakers)
    np.testing.assert_array_equal(DONE.posteriors[STACKED][0], model.predict(Q[ROUND.test], alm["test"]))
    assert DONE.choices[STACKED] == {"C": model.c}


@pytest.mark.parametrize("weight", [0.0, 0.35])
def test_given_fusion_is_what_score_computes_and_changes_nothing_else(weight):
    given = Fusion(Setting(2, Text(4), "logit", "loglinear", 1.7), weight, 0.6, 1.3)
    done = outcome(DATA, given=given)
    labelling = Labelling(
        labels=DATA.labels,
        text=ALM.text[Text(4)],
        scale=ALM.scale,
        specialist_labels=DATA.labels,
        ensemble="logit",
        temperature=1.7,
        fusion="loglinear",
        weight=weight,
        specialist_temperature=0.6,
        fused_temperature=1.3,
    )
    expected, _, _ = posteriors(labelling, ALM.audio[2][ROUND.test][:, None], KNOWN.logits[ROUND.test], None)
    np.testing.assert_allclose(done.posteriors[GIVEN][0], expected, atol=1e-12)
    copies = {"w": weight, "rule": "loglinear", "a": 2, "b": 4}
    temperatures = {"temperature": 1.7, "specialist_temperature": 0.6, "fused_temperature": 1.3}
    assert done.choices.pop(GIVEN) == copies | temperatures
    assert done.choices == DONE.choices


def test_labels_outside_the_specialist_come_from_the_alm():
    known = replace(KNOWN, mapping=KNOWN.mapping & [True, True, False, True])
    done = outcome(replace(DATA, specialists={"specialist": known}))
    assert (done.posteriors[SPECIALIST][0][:, 2] == 0).all()
    assert (done.posteriors[FUSED][0][:, 2] > 0).all()


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ({"alms": {}}, {"chance", "svm", "specialist"}),
        (
            {"specialists": {}},
            set(NAMES) - {"specialist", "fused_plain", "zs_fuse", "zs_fuse_given", "stacked", "zs_fuse_svm"},
        ),
    ],
)
def test_without_a_model_its_systems_are_left_out(missing, left):
    assert set(outcome(replace(DATA, **missing)).posteriors) == left


def test_without_svm_there_is_no_fusion_with_it(monkeypatch):
    monkeypatch.setattr(systems, "svm_posteriors", lambda *_: None)
    assert set(NAMES) - set(outcome(DATA).posteriors) == {"svm", FUSED_SVM, GIVEN}
