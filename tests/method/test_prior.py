"""Biases reach the wanted mean, equal those of scipy's minimiser, and help only if the shares are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from zsfuse_ray.method.prior import TOLERANCE, biased, fit_biases
from zsfuse_ray.method.zeroshot import softmax

SHAPES = {"n": st.integers(3, 60), "labels": st.integers(2, 7), "seed": st.integers(0, 10_000)}


def random_case(n: int, labels: int, seed: int, sharpness: float) -> tuple[NDArray, NDArray, NDArray]:
    """Posteriors with a preference for some labels, weights, and wanted shares."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, sharpness, (n, labels)) + rng.normal(0, sharpness, labels)
    return softmax(scores), rng.uniform(0.1, 5, n), rng.dirichlet(np.full(labels, 3.0))


def mean(posteriors: NDArray, weights: NDArray) -> NDArray:
    return weights @ posteriors / weights.sum()


@given(**SHAPES, sharpness=st.sampled_from([0.01, 1.0, 10.0, 30.0]))
def test_the_weighted_mean_becomes_the_wanted_one(n, labels, seed, sharpness) -> None:
    posteriors, weights, wanted = random_case(n, labels, seed, sharpness)
    biases = fit_biases(posteriors, weights, wanted)
    moved = biased(posteriors, biases)
    np.testing.assert_allclose(moved.sum(axis=1), 1)
    np.testing.assert_allclose(mean(moved, weights), wanted, atol=2 * TOLERANCE)
    assert biases.sum() == pytest.approx(0, abs=1e-9)


@given(**SHAPES)
def test_biases_equal_those_of_scipy(n, labels, seed) -> None:
    posteriors, weights, wanted = random_case(n, labels, seed, 1.5)

    def dual(biases: NDArray) -> float:
        totals = np.asarray(logsumexp(np.log(posteriors) + biases, axis=1))
        return float(np.average(totals, weights=weights) - wanted @ biases)

    def gradient(biases: NDArray) -> NDArray:
        return mean(softmax(np.log(posteriors) + biases), weights) - wanted

    found = minimize(dual, np.zeros(labels), jac=gradient, method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(fit_biases(posteriors, weights, wanted), found - found.mean(), atol=1e-3)


@given(**SHAPES)
def test_the_order_of_rows_does_not_matter(n, labels, seed) -> None:
    posteriors, weights, wanted = random_case(n, labels, seed, 2.0)
    order = np.random.default_rng(seed).permutation(n)
    expected = fit_biases(posteriors, weights, wanted)
    np.testing.assert_allclose(fit_biases(posteriors[order], weights[order], wanted), expected, atol=1e-6)


@given(**SHAPES)
def test_a_weight_counts_like_copies_of_a_row(n, labels, seed) -> None:
    posteriors, _, wanted = random_case(n, labels, seed, 1.0)
    times = np.random.default_rng(seed).integers(1, 4, n)
    copied = fit_biases(np.repeat(posteriors, times, axis=0), np.ones(times.sum()), wanted)
    np.testing.assert_allclose(fit_biases(posteriors, times.astype(float), wanted), copied, atol=1e-6)


@given(**SHAPES)
def test_known_biases_are_found(n, labels, seed) -> None:
    posteriors, weights, _ = random_case(n, labels, seed, 1.0)
    biases = np.random.default_rng(seed).normal(0, 2, labels)
    shifted = biased(posteriors, biases)
    found = fit_biases(shifted, weights, mean(posteriors, weights))
    np.testing.assert_allclose(found, biases.mean() - biases, atol=1e-2)
    np.testing.assert_allclose(biased(shifted, found), posteriors, atol=1e-2)


def test_no_biases_are_the_identity() -> None:
    posteriors, weights, wanted = random_case(5, 3, 0, 1.0)
    strength_0 = 0.0 * fit_biases(posteriors, weights, wanted)
    for biases in (None, strength_0):
        np.testing.assert_array_equal(biased(posteriors, biases), posteriors)
    assert biased(posteriors[:0], np.array([1.0, 0, -1])).shape == (0, 3)


def test_an_impossible_label_remains_impossible() -> None:
    """As the labels that a specialist does not cover."""
    posteriors, weights, _ = random_case(20, 3, 1, 1.0)
    posteriors = np.insert(posteriors, 1, 0.0, axis=1)
    biases = fit_biases(posteriors, weights, np.array([0.2, 0.5, 0.2, 0.1]))
    assert biases[1] == 0
    moved = biased(posteriors, biases)
    assert not moved[:, 1].any()
    np.testing.assert_allclose(mean(moved, weights), [0.4, 0, 0.4, 0.2], atol=1e-5)


def test_shares_that_no_biases_give_end_with_finite_biases() -> None:
    certain = np.eye(3)[[0, 0, 1, 2]]
    biases = fit_biases(certain, np.ones(4), np.full(3, 1 / 3))
    assert np.isfinite(biases).all()
    np.testing.assert_allclose(biased(certain, biases), certain)


UNIFORM = np.full(5, 0.2)
MOSTLY_NEUTRAL = np.array([0.8, 0.05, 0.05, 0.05, 0.05])


def accuracies(shares: NDArray, preference: float, wanted: NDArray | None) -> tuple[float, float]:
    """WA and UA of a model that prefers the last label, on 20,000 segments with these shares of labels."""
    rng, labels = np.random.default_rng(0), len(shares)
    truth = rng.choice(labels, 20_000, p=shares)
    scores = 1.5 * (rng.normal(size=(len(truth), labels)) + 1.5 * np.eye(labels)[truth])
    posteriors = softmax(scores + preference * np.eye(labels)[-1])
    if wanted is not None:
        posteriors = biased(posteriors, fit_biases(posteriors, np.ones(len(truth)), wanted))
    right = posteriors.argmax(axis=1) == truth
    return float(right.mean()), float(np.mean([right[truth == c].mean() for c in range(labels)]))


@pytest.mark.parametrize("preference", [1.0, 2.0])
def test_a_uniform_prior_helps_on_balanced_speech_and_harms_on_skewed_speech(preference: float) -> None:
    """The true shares raise the accuracy on both."""
    before, after = (accuracies(UNIFORM, preference, wanted) for wanted in (None, UNIFORM))
    assert after[0] > before[0] + 0.01
    assert after[1] > before[1] + 0.01
    before, uniform, true = (
        accuracies(MOSTLY_NEUTRAL, preference, wanted) for wanted in (None, UNIFORM, MOSTLY_NEUTRAL)
    )
    assert uniform[0] < before[0] - 0.01
    assert true[0] > before[0] + 0.2


def test_the_true_shares_of_skewed_speech_raise_wa_and_not_always_ua() -> None:
    """UA counts every label alike, so what helps on an archive can lower it."""
    before, true = (accuracies(MOSTLY_NEUTRAL, 0.0, wanted) for wanted in (None, MOSTLY_NEUTRAL))
    assert true[0] > before[0] + 0.1
    assert true[1] < before[1] - 0.1
