"""Temperatures of posteriors against their closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsfuse_ray.method.calibration import fit_tempered, tempered
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


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_true_temperature_is_found(true: float) -> None:
    rng = np.random.default_rng(1)
    posteriors = softmax(rng.normal(0, 2, (20_000, 4)))
    drawn = tempered(posteriors, true)
    targets = (drawn.cumsum(axis=1) > rng.random((len(drawn), 1))).argmax(axis=1)
    assert fit_tempered(posteriors, targets) == pytest.approx(true, rel=0.05)
