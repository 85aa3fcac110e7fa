"""The fit on few labels: against scikit-learn, its gradient, its limits, and on synthetic archives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from zsfuse_ray.method.few_labels import (
    FEWEST_GROUPS,
    STRENGTHS,
    USUAL_STRENGTH,
    Scaling,
    fit_head,
    penalised_fit,
)


def problem(n: int, v: int, k: int = 3, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Start logits (n, k), inputs (n, v) and targets (n,) with all labels."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    return rng.standard_normal((n, k)), rng.standard_normal((n, v)), targets


@pytest.mark.parametrize(("n", "v"), [(40, 7), (12, 60)])
@pytest.mark.parametrize("strength", [0.03, 1.0, 20.0])
def test_without_a_start_it_is_scikit_learns_logistic_regression(n: int, v: int, strength: float) -> None:
    start, inputs, targets = problem(n, v)
    ours = penalised_fit(np.zeros_like(start), inputs, targets, strength)
    theirs = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(inputs, targets)
    np.testing.assert_allclose(ours, theirs.coef_, atol=2e-5)


def test_weights_are_those_of_scikit_learn() -> None:
    start, inputs, targets = problem(30, 5)
    weights = np.random.default_rng(1).uniform(0.1, 3, 30)
    ours = penalised_fit(np.zeros_like(start), inputs, targets, 0.5, weights)
    theirs = LogisticRegression(C=2, fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(inputs, targets, sample_weight=weights)
    np.testing.assert_allclose(ours, theirs.coef_, atol=2e-5)


def loss(delta: NDArray, start: NDArray, inputs: NDArray, targets: NDArray, strength: float) -> float:
    posteriors = log_softmax(start + inputs @ delta.T, axis=1)
    return -posteriors[np.arange(len(targets)), targets].sum() + strength / 2 * (delta**2).sum()


@given(st.integers(0, 10_000), st.sampled_from([(25, 4), (6, 15)]), st.sampled_from([0.01, 0.3, 10.0]))
def test_no_small_step_lowers_the_loss(seed: int, size: tuple[int, int], strength: float) -> None:
    start, inputs, targets = problem(*size, seed=seed)
    found = penalised_fit(start, inputs, targets, strength)
    here = loss(found, start, inputs, targets, strength)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        step = rng.standard_normal(found.shape) * 1e-4
        ahead, behind = (loss(found + s * step, start, inputs, targets, strength) for s in (1, -1))
        assert min(ahead, behind) >= here - 1e-9
        slope = abs(ahead - behind) / 2  # central difference: the gradient along the step
        assert slope <= 1e-5 * np.linalg.norm(step) * (1 + here)


def test_in_the_span_of_few_segments_it_is_the_same() -> None:
    start, inputs, targets = problem(8, 30)
    padded = np.vstack([inputs, np.zeros((40, 30))])  # more rows than columns: no reduction
    weights = np.concatenate([np.ones(8), np.zeros(40)])
    whole = penalised_fit(
        np.vstack([start, np.zeros((40, 3))]),
        padded,
        np.concatenate([targets, np.zeros(40, int)]),
        0.1,
        weights,
    )
    np.testing.assert_allclose(penalised_fit(start, inputs, targets, 0.1), whole, atol=1e-5)


def test_a_strong_pull_leaves_the_specialist_as_it_is() -> None:
    start, inputs, targets = problem(20, 5)
    assert np.abs(penalised_fit(start, inputs, targets, 1e9)).max() < 1e-6


def archive(n: int, groups: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Logits that are wrong along one direction, vectors, targets and groups of n segments."""
    rng = np.random.default_rng(seed)
    vectors = 3 * rng.standard_normal((n, 40)) + 5
    truth = (vectors - 5)[:, :3] + 0.1 * rng.standard_normal((n, 3))
    logits = truth[:, [1, 0, 2]]  # takes the first two labels for each other
    return logits, vectors, truth.argmax(axis=1), np.array([f"r{i % groups}" for i in range(n)])


EVERY = np.ones(3, bool)


def test_corrections_improve_unseen_segments() -> None:
    logits, vectors, targets, groups = archive(400, 20)
    few = slice(60)
    fitted = fit_head("abc", EVERY, logits[few], vectors[few], targets[few], groups[few], Scaling.of(vectors))
    rest = slice(60, None)
    before = (logits[rest].argmax(axis=1) == targets[rest]).mean()
    after = (fitted.head.logits(logits[rest], vectors[rest]).argmax(axis=1) == targets[rest]).mean()
    assert before < 0.45
    assert after > before + 0.25
    assert fitted.chosen
    assert fitted.strength in STRENGTHS
    assert fitted.figures is not None
    assert fitted.figures["head"]["ua"] > fitted.figures["specialist"]["ua"] + 0.2
    assert fitted.figures["head"]["nll"] < fitted.figures["specialist"]["nll"]


def test_the_layer_gives_what_the_fit_on_inputs_gives() -> None:
    vectors = archive(50, 2)[1]
    scaling = Scaling.of(vectors)
    delta = np.random.default_rng(3).standard_normal((3, 41))
    weight, bias = scaling.layer(delta)
    np.testing.assert_allclose(vectors @ weight.T + bias, scaling.inputs(vectors) @ delta.T, atol=1e-9)
    assert (scaling.inputs(vectors)[:, :-1] ** 2).sum(axis=1).mean() == pytest.approx(1)
    constant = Scaling.of(np.hstack([vectors, np.full((50, 1), 7.0)]))
    assert np.isfinite(constant.inputs(np.hstack([vectors, np.full((50, 1), 7.0)]))).all()


def test_too_few_groups_take_the_usual_strength_and_no_temperature() -> None:
    logits, vectors, targets, groups = archive(60, FEWEST_GROUPS - 1)
    fitted = fit_head("abc", EVERY, logits, vectors, targets, groups, Scaling.of(vectors))
    assert (fitted.chosen, fitted.figures) == (False, None)
    assert (fitted.strength, fitted.head.temperature) == (USUAL_STRENGTH, 1.0)


def test_a_new_label_is_learnt_and_is_rare_before() -> None:
    logits, vectors, targets, groups = archive(300, 30)
    is_new = vectors[:, 10] > 8
    targets = np.where(is_new, 3, targets)
    few, rest = slice(100), slice(100, None)
    scaling = Scaling.of(vectors)
    fitted = fit_head("abcd", np.ones(4, bool), logits[few], vectors[few], targets[few], groups[few], scaling)
    posteriors = softmax(fitted.head.logits(logits[rest], vectors[rest]), axis=1)
    assert posteriors.shape == (200, 4)
    assert posteriors[is_new[rest], 3].mean() > 2 * posteriors[~is_new[rest], 3].mean()


def test_labels_that_could_not_be_given_keep_their_logits() -> None:
    logits, vectors, targets, groups = archive(60, 12)
    with_other = np.hstack([logits[:, :1], np.full((60, 1), 9.0), logits[:, 1:]])  # "x" would win everywhere
    places = np.where(targets > 0, targets + 1, 0)
    possible = np.array([True, False, True, True])
    fitted = fit_head("axbc", possible, with_other, vectors, places, groups, Scaling.of(vectors))
    plain = fit_head("abc", EVERY, logits, vectors, targets, groups, Scaling.of(vectors))
    np.testing.assert_array_equal(fitted.head.weight[1], 0)
    assert fitted.head.bias[1] == 0
    np.testing.assert_allclose(fitted.head.weight[[0, 2, 3]], plain.head.weight, atol=1e-5)


def test_the_temperature_makes_left_out_groups_likeliest() -> None:
    logits, vectors, targets, groups = archive(100, 10)
    confident = fit_head("abc", EVERY, 30 * logits, vectors, targets, groups, Scaling.of(vectors))
    assert confident.head.temperature > 1.5


def test_few_segments_that_are_all_right_do_not_prove_certainty() -> None:
    _, vectors, targets, groups = archive(20, 20)
    right = 4.0 * np.eye(3)[targets]
    fitted = fit_head("abc", EVERY, right, vectors, targets, groups, Scaling.of(vectors))
    assert 0.4 < fitted.head.temperature < 1
