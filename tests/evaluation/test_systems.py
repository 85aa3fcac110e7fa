from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from synthetic import heard, split_round

from zsfuse_ray.evaluation import systems
from zsfuse_ray.evaluation.heard import Amplified, Fusion
from zsfuse_ray.evaluation.systems import (
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
    alm_posterior,
    choose_amplified,
    choose_fusion,
    choose_prompt,
    fitted,
    run_round,
)
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.method.stacking import fit_stacked
from zsfuse_ray.method.zeroshot import fit_temperature, posterior, scores

DATA = heard(alm=0.6, specialist=0.7)
ROUND = split_round(DATA)
DONE = run_round(DATA, ROUND)
PAIRS = list(product(DATA.audio_repeats, DATA.text_repeats))


def ua_of(posteriors: np.ndarray, rows: np.ndarray) -> float:
    return ua(DATA.targets[rows], posteriors.argmax(axis=1), 4)


def test_every_system_of_the_table_is_there():
    assert set(DONE.posteriors) == set(NAMES) - {GIVEN}
    for name, parts in DONE.posteriors.items():
        assert len(parts) == (5 if name == SINGLE_MEAN else 1)
        for part in parts:
            assert part.shape == (len(ROUND.test), 4)
            np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-9)


def test_test_speakers_labels_change_neither_choices_nor_predictions():
    targets = DATA.targets.copy()
    targets[ROUND.test] = np.random.default_rng(0).permutation(targets[ROUND.test])
    assert (targets != DATA.targets).any()
    shuffled = run_round(replace(DATA, targets=targets), ROUND)
    assert shuffled.choices == DONE.choices
    for name, parts in DONE.posteriors.items():
        for part, again in zip(parts, shuffled.posteriors[name], strict=True):
            assert (part == again).all(), name
    assert shuffled.weight_curve["dev"] == DONE.weight_curve["dev"]
    assert shuffled.weight_curve["test"] != DONE.weight_curve["test"]


def test_test_speakers_audio_changes_no_choice():
    rng = np.random.default_rng(0)
    audio, features = DATA.audio.copy(), DATA.features.copy()
    audio[ROUND.test] = rng.normal(size=audio[ROUND.test].shape)
    features[ROUND.test] = rng.normal(size=features[ROUND.test].shape)
    assert run_round(replace(DATA, audio=audio, features=features), ROUND).choices == DONE.choices


def test_dev_speakers_labels_do_matter():
    targets = DATA.targets.copy()
    targets[ROUND.dev] = np.random.default_rng(0).permutation(targets[ROUND.dev])
    assert run_round(replace(DATA, targets=targets), ROUND).choices[FUSED] != DONE.choices[FUSED]


def test_fusion_is_the_best_of_all_on_dev():
    best = 0.0
    for (a, b), weight, rule in product(PAIRS, WEIGHTS, RULES):
        alm = alm_posterior(DATA, ROUND.dev, fitted(DATA, ROUND.dev, a, b))
        fused = fuse(DATA.specialist[ROUND.dev], alm, weight, rule, DATA.inside)
        best = max(best, ua_of(fused, ROUND.dev))
    chosen = DONE.choices[FUSED]
    assert chosen["dev_ua"] == pytest.approx(best)
    assert 0 < chosen["w"] < 1
    alm = alm_posterior(DATA, ROUND.test, Amplified(chosen["a"], chosen["b"], chosen["temperature"]))
    expected = fuse(DATA.specialist[ROUND.test], alm, chosen["w"], chosen["rule"], DATA.inside)
    assert (DONE.posteriors[FUSED][0] == expected).all()


def test_amplification_and_prompt_are_the_best_on_dev():
    once = Amplified(1, 1, 1.0)
    grid = {ab: ua_of(alm_posterior(DATA, ROUND.dev, Amplified(*ab, 1.0)), ROUND.dev) for ab in PAIRS}
    chosen = DONE.choices[AMPLIFIED]
    assert grid[chosen["a"], chosen["b"]] == max(grid.values())
    np.testing.assert_allclose(DONE.grid["dev"].ravel(), list(grid.values()))
    singles = [ua_of(alm_posterior(DATA, ROUND.dev, once, p), ROUND.dev) for p in range(5)]
    assert singles[DONE.choices[SINGLE_BEST]["prompt"]] == max(singles)


def test_of_equals_the_simplest_is_chosen():
    same = replace(
        DATA,
        audio=np.repeat(DATA.audio[:, :1], 3, axis=1),
        text=np.repeat(DATA.text[:1], 2, axis=0),
        specialist=np.eye(4)[DATA.targets] * 0.9 + 0.025,
    )
    assert choose_amplified(same, ROUND.dev) == Amplified(1, 1, 1.0)
    assert choose_prompt(replace(same, text=same.text[:, [0, 0, 0]]), ROUND.dev) == 0
    fits = [Amplified(a, b, 1.0) for a, b in PAIRS]
    chosen = choose_fusion(same, ROUND.dev, fits)  # the specialist is perfect
    assert (chosen.weight, chosen.rule, chosen.amplified) == (0.0, "linear", fits[0])


@pytest.mark.parametrize(("alm", "specialist"), [(0.0, 1.5), (2.0, 0.0)])
def test_a_model_that_hears_nothing_does_little_harm(alm, specialist):
    data = heard(1, alm=alm, specialist=specialist, n_each=80)
    test = split_round(data).test
    done = run_round(data, split_round(data))
    found = {
        name: ua(data.targets[test], parts[0].argmax(axis=1), 4) for name, parts in done.posteriors.items()
    }
    assert found[FUSED] > max(found[SPECIALIST], found[AMPLIFIED]) - 0.03


def test_the_temperature_has_the_best_likelihood():
    found = fitted(DATA, ROUND.dev, 2, 4)
    raw = scores(DATA.audio[ROUND.dev, 1], DATA.text[1], DATA.scale)
    assert found.temperature == pytest.approx(fit_temperature(raw, DATA.targets[ROUND.dev]), rel=0.01)
    mixed = replace(DATA, ensemble="probability")
    best = fitted(mixed, ROUND.dev, 2, 4).temperature
    losses = [
        nll(
            posterior(DATA.audio[ROUND.dev, 1], DATA.text[1], 20.0, "probability", t), DATA.targets[ROUND.dev]
        )
        for t in (best * 0.9, best, best * 1.1)
    ]
    assert losses[1] == min(losses)


def test_stacked_is_fitted_on_dev():
    chosen = DONE.choices[FUSED]
    alm = {
        part: alm_posterior(DATA, rows, Amplified(chosen["a"], chosen["b"], chosen["temperature"]))
        for part, rows in (("dev", ROUND.dev), ("test", ROUND.test))
    }
    model = fit_stacked(DATA.specialist[ROUND.dev], alm["dev"], DATA.targets[ROUND.dev], 4)
    assert (DONE.posteriors[STACKED][0] == model.predict(DATA.specialist[ROUND.test], alm["test"])).all()


def test_a_given_fusion_is_measured_as_it_is_and_changes_nothing_else():
    given = Fusion(Amplified(2, 4, 1.7), 0.35, "loglinear")
    done = run_round(replace(DATA, given=given), ROUND)
    alm = posterior(DATA.audio[ROUND.test, 1], DATA.text[1], DATA.scale, DATA.ensemble, 1.7)
    expected = fuse(DATA.specialist[ROUND.test], alm, 0.35, "loglinear", DATA.inside)
    np.testing.assert_allclose(done.posteriors[GIVEN][0], expected, atol=1e-12)
    assert done.choices.pop(GIVEN) == {"w": 0.35, "rule": "loglinear", "a": 2, "b": 4, "temperature": 1.7}
    assert done.choices == DONE.choices


def test_labels_the_specialist_does_not_know_are_the_alms():
    inside = np.array([True, True, False, True])
    masked = DATA.specialist * inside
    data = replace(DATA, specialist=masked / masked.sum(axis=1, keepdims=True), inside=inside)
    done = run_round(data, ROUND)
    assert (done.posteriors[SPECIALIST][0][:, 2] == 0).all()
    assert (done.posteriors[FUSED][0][:, 2] > 0).all()


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ({"audio": None, "text": None}, {"chance", "svm", "specialist"}),
        (
            {"specialist": None},
            set(NAMES) - {"specialist", "fused_plain", "zs_fuse", "zs_fuse_given", "stacked", "zs_fuse_svm"},
        ),
    ],
)
def test_without_a_model_its_givenare_left_out(missing, left):
    assert set(run_round(replace(DATA, **missing), ROUND).posteriors) == left


def test_without_a_baseline_there_is_no_fusion_with_it(monkeypatch):
    monkeypatch.setattr(systems, "svm_posteriors", lambda *_: None)
    assert set(NAMES) - set(run_round(DATA, ROUND).posteriors) == {"svm", FUSED_SVM, GIVEN}
