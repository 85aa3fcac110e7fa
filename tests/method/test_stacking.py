import numpy as np
import pytest
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.stacking import fit_stacked


def labelled(n: int, c: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Return informative posteriors q and p, q more than p, and targets."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, c, n)
    q, p = (np.exp(rng.normal(size=(n, c)) + gain * np.eye(c)[targets]) for gain in (2.0, 1.0))
    return q / q.sum(axis=1, keepdims=True), p / p.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("c", [2, 4])
def test_stacked_beats_both_parts(c: int):
    q, p, targets = labelled(2000, c)
    stacked = fit_stacked(q[:1000], p[:1000], targets[:1000], c)
    fused = stacked.predict(q[1000:], p[1000:])
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    hits = [(x.argmax(axis=1) == targets[1000:]).mean() for x in (fused, q[1000:], p[1000:])]
    assert hits[0] > max(hits[1:]) + 0.01


def test_stacked_is_calibrated_on_its_training_data():
    """With a fitted intercept, the mean probability of each label is its share, whatever the penalty."""
    q, p, targets = labelled(600, 3)
    mean = fit_stacked(q, p, targets, 3, c=0.01).predict(q, p).mean(axis=0)
    np.testing.assert_allclose(mean, np.bincount(targets) / 600, atol=1e-3)


@pytest.mark.parametrize("present", [[0, 2], [1, 3], [0, 2, 3]])
def test_stacked_gives_labels_without_clips_probability_0(present: list[int]):
    q, p, targets = labelled(600, 4)
    rows = np.isin(targets, present)
    q, p, targets = q[rows], p[rows], targets[rows]
    fused = fit_stacked(q, p, targets, 4).predict(q, p)
    assert fused[:, [c for c in range(4) if c not in present]].max() == 0
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    assert (fused.argmax(axis=1) == targets).mean() > 0.7


def test_stacked_is_finite_for_zeros():
    q, p, targets = labelled(200, 3)
    assert np.isfinite(fit_stacked(q, p, targets, 3).predict([[1, 0, 0]], [[0, 0, 1]])).all()


def test_fit_stacked_with_a_single_label_is_an_error():
    q, p, _ = labelled(10, 3)
    with pytest.raises(InputError, match="two labels"):
        fit_stacked(q, p, np.zeros(10, int), 3)
