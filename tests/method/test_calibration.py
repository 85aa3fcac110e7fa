"""Temperatures of posteriors against their closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax as scipy_softmax

from zsfuse_ray.method.calibration import MOST_GROUPS, fit, fit_tempered, left_out, tempered
from zsfuse_ray.method.metrics import nll
from zsfuse_ray.method.zeroshot import softmax


@given(st.floats(0.1, 10), st.integers(0, 99))
def test_of_a_softmax_it_is_the_softmax_of_divided_logits(temperature: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (5, 4))
    np.testing.assert_allclose(
        tempered(softmax(logits), temperature), softmax(logits / temperature), atol=1e-9
    )


def test_certain_and_impossible_labels_remain_so() -> None:
    posteriors = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_array_equal(tempered(posteriors, 3.0), posteriors)


def test_temperature_1_changes_nothing() -> None:
    posteriors = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    assert tempered(posteriors, 1.0) is posteriors


def drawn(posteriors: NDArray, seed: int = 0) -> NDArray:
    """One target per row, drawn from its posterior."""
    uniform = np.random.default_rng(seed).random((len(posteriors), 1))
    return (posteriors.cumsum(axis=1) > uniform).argmax(axis=1)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_true_temperature_is_found(true: float) -> None:
    posteriors = softmax(np.random.default_rng(1).normal(0, 2, (20_000, 4)))
    assert fit_tempered(posteriors, drawn(tempered(posteriors, true))) == pytest.approx(true, rel=0.05)


@given(st.integers(0, 2**32 - 1))
def test_fit_minimises_the_log_loss(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(30, 3)) * 3, rng.integers(0, 3, 30)

    def loss(t: NDArray) -> NDArray:
        return -np.log(scipy_softmax(logits / t[:, None, None], axis=-1)[:, range(30), targets]).mean(axis=1)

    t = fit(lambda t: softmax(logits / t), targets)
    assert 0.01 <= t <= 100
    assert loss(np.array([t])) <= loss(np.geomspace(0.05, 100, 300)).min() + 1e-5
    assert fit_tempered(softmax(logits), targets) == pytest.approx(t, rel=1e-3)


def test_separated_labels_keep_it_within_its_bounds() -> None:
    separated = np.eye(3)[[0, 1, 2, 0]] * 10
    assert 0.01 <= fit(lambda t: softmax(separated / t), np.array([0, 1, 2, 0])) < 0.3
    assert fit(lambda t: softmax(separated / t), np.array([1, 2, 0, 1])) == pytest.approx(100, rel=0.01)


def test_impossible_targets_and_no_clips_do_not_count() -> None:
    posteriors = softmax(np.random.default_rng(1).normal(0, 2, (200, 3)))
    targets = drawn(tempered(posteriors, 2.0))
    impossible = np.tile([0.7, 0.3, 0.0], (100, 1))
    both = np.vstack([posteriors, impossible])
    found = fit_tempered(both, np.append(targets, np.full(100, 2)))
    assert found == fit_tempered(posteriors, targets)
    assert fit_tempered(impossible, np.full(100, 2)) == 1.0
    assert fit(lambda _: np.empty((0, 3)), np.array([], int)) == 1.0


def test_it_has_four_digits() -> None:
    posteriors = softmax(np.random.default_rng(1).normal(0, 2, (200, 3)))
    found = fit_tempered(posteriors, drawn(tempered(posteriors, 2.0)))
    assert found == float(f"{found:.4g}")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_each_group_is_left_out_once(groups: list[int]) -> None:
    names = np.array([f"s{group}" for group in groups])
    parts = list(left_out(names))
    if len(set(groups)) == 1:
        assert parts == []
        return
    assert len(parts) == min(len(set(groups)), MOST_GROUPS)
    assert sorted(np.concatenate([own for _, own in parts])) == list(range(len(names)))
    for others, own in parts:
        assert not set(names[others]) & set(names[own])
        assert len(others) + len(own) == len(names)


def test_a_linear_pool_of_calibrated_posteriors_needs_a_temperature_below_1() -> None:
    """Two independent views of a target, each calibrated: their mean is under-confident."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 5000)
    views = [np.eye(3)[targets] * 2 + rng.normal(size=(5000, 3)) for _ in range(2)]
    q, p = (tempered(softmax(2 * v), fit_tempered(softmax(2 * v), targets)) for v in views)
    assert fit_tempered((q + p) / 2, targets) < 0.8
    fused = tempered((q + p) / 2, fit_tempered((q + p) / 2, targets))
    assert nll(fused, targets) < nll((q + p) / 2, targets)
