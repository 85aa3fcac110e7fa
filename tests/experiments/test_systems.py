from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.experiments.synthetic import evidence, split_round
from zsfuse_ray.experiments import systems
from zsfuse_ray.experiments.evidence import Evidence, Text
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.experiments.settings import Setting, alm_posterior
from zsfuse_ray.experiments.systems import (
    AMPLIFIED,
    FUSED,
    FUSED_SVM,
    GIVEN,
    NAMES,
    RULES,
    SINGLE_BEST,
    SINGLE_MEAN,
    SPECIALIST,
    STACKED,
    WEIGHTS,
    Fusion,
    Outcome,
    choose_amplified,
    choose_fusion,
    choose_prompt,
    fitted,
    run_round,
    simple_first,
)
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.stacking import fit_stacked
from zsfuse_ray.method.zeroshot import fit_temperature, posterior, scores

COPIES = {"audio_repeats": (1, 2, 3), "text_repeats": (1, 4), "templates": 5}
DATA = evidence(alm=0.6, specialist=0.7, **COPIES)
ROUND = split_round(DATA)
ALM, KNOWN = DATA.alms["alm"], DATA.specialists["specialist"]
SETTINGS = simple_first(DATA, "embedding")


def outcome(data: Evidence, r: Round = ROUND, given: Fusion | None = None) -> Outcome:
    return run_round(data, r, "embedding", given)


DONE = outcome(DATA)


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


def test_chosen_fusion_has_the_best_dev_ua():
    best = 0.0
    for setting, weight, rule in product(SETTINGS, WEIGHTS, RULES):
        alm = alm_posterior(DATA, fitted(DATA, ROUND.dev, setting), ROUND.dev)
        fused = fuse(KNOWN.posterior[ROUND.dev], alm, weight, rule, KNOWN.inside)
        best = max(best, ua_of(fused, ROUND.dev))
    chosen = DONE.choices[FUSED]
    assert chosen["dev_ua"] == pytest.approx(best)
    assert 0 < chosen["w"] < 1
    alm = alm_posterior(DATA, how(chosen), ROUND.test)
    expected = fuse(KNOWN.posterior[ROUND.test], alm, chosen["w"], chosen["rule"], KNOWN.inside)
    assert (DONE.posteriors[FUSED][0] == expected).all()


def test_chosen_amplification_and_prompt_have_the_best_dev_ua():
    grid = {(s.a, s.text.b): ua_of(alm_posterior(DATA, s, ROUND.dev), ROUND.dev) for s in SETTINGS}
    chosen = DONE.choices[AMPLIFIED]
    assert grid[chosen["a"], chosen["b"]] == max(grid.values())
    expected = [grid[pair] for pair in product((1, 2, 3), (1, 4))]
    np.testing.assert_allclose(DONE.grid["dev"].ravel(), expected)
    singles = [ua_of(alm_posterior(DATA, SETTINGS[0], ROUND.dev, [p]), ROUND.dev) for p in range(5)]
    assert singles[DONE.choices[SINGLE_BEST]["prompt"]] == max(singles)


def test_ties_go_to_the_simplest_choice():
    prompt = ALM.text[Text(1)][:1]
    alm = replace(
        ALM,
        audio=dict.fromkeys(ALM.audio, ALM.audio[1]),
        text=dict.fromkeys(ALM.text, np.repeat(prompt, 3, axis=0)),
    )
    perfect = replace(KNOWN, posterior=np.eye(4)[DATA.targets] * 0.9 + 0.025)
    same = replace(DATA, alms={"alm": alm}, specialists={"specialist": perfect})
    assert [(s.a, s.text.b) for s in SETTINGS] == [(1, 1), (2, 1), (3, 1), (1, 4), (2, 4), (3, 4)]
    assert choose_amplified(same, ROUND.dev, SETTINGS) == SETTINGS[0]
    assert choose_prompt(same, ROUND.dev, SETTINGS[0]) == 0
    assert choose_fusion(same, ROUND.dev, SETTINGS) == Fusion(SETTINGS[0], 0.0, 1.0)


@pytest.mark.parametrize(("alm", "specialist"), [(0.0, 1.5), (2.0, 0.0)])
def test_uninformative_model_hardly_lowers_ua(alm, specialist):
    data = evidence(1, alm=alm, specialist=specialist, n_each=80, **COPIES)
    test = split_round(data).test
    done = outcome(data, split_round(data))
    found = {
        name: ua(data.targets[test], parts[0].argmax(axis=1), 4) for name, parts in done.posteriors.items()
    }
    assert found[FUSED] > max(found[SPECIALIST], found[AMPLIFIED]) - 0.03


def test_temperature_maximises_the_likelihood():
    setting = Setting(2, Text(4), "embedding", "linear", 1.0)
    found = fitted(DATA, ROUND.dev, setting)
    raw = scores(ALM.audio[2][ROUND.dev], ALM.text[Text(4)], ALM.scale)
    assert found.temperature == pytest.approx(fit_temperature(raw, DATA.targets[ROUND.dev]), rel=0.01)
    best = fitted(DATA, ROUND.dev, replace(setting, ensemble="probability")).temperature
    given = (ALM.audio[2][ROUND.dev], ALM.text[Text(4)], 20.0, "probability")
    losses = [nll(posterior(*given, t), DATA.targets[ROUND.dev]) for t in (best * 0.9, best, best * 1.1)]
    assert losses[1] == min(losses)


def test_stacked_is_fitted_on_dev():
    chosen = DONE.choices[FUSED]
    alm = {
        part: alm_posterior(DATA, how(chosen), rows)
        for part, rows in (("dev", ROUND.dev), ("test", ROUND.test))
    }
    model = fit_stacked(KNOWN.posterior[ROUND.dev], alm["dev"], DATA.targets[ROUND.dev], 4)
    assert (DONE.posteriors[STACKED][0] == model.predict(KNOWN.posterior[ROUND.test], alm["test"])).all()


def test_given_fusion_is_measured_unchanged_and_changes_nothing_else():
    done = outcome(DATA, given=Fusion(Setting(2, Text(4), "logit", "loglinear", 1.7), 0.35))
    alm = posterior(ALM.audio[2][ROUND.test], ALM.text[Text(4)], ALM.scale, "logit", 1.7)
    expected = fuse(KNOWN.posterior[ROUND.test], alm, 0.35, "loglinear", KNOWN.inside)
    np.testing.assert_allclose(done.posteriors[GIVEN][0], expected, atol=1e-12)
    assert done.choices.pop(GIVEN) == {"w": 0.35, "rule": "loglinear", "a": 2, "b": 4, "temperature": 1.7}
    assert done.choices == DONE.choices


def test_labels_outside_the_specialist_come_from_the_alm():
    inside = np.array([True, True, False, True])
    masked = KNOWN.posterior * inside
    known = replace(KNOWN, posterior=masked / masked.sum(axis=1, keepdims=True), inside=inside)
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
