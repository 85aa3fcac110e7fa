import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.stacking import STRENGTHS, fit_stacked


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


def test_every_label_counts_the_same():
    """With a fitted intercept, the mean probability of each label is 1/C if every label has equal weight."""
    q, p, targets = labelled(600, 3)
    kept = np.concatenate([np.flatnonzero(targets == 0), np.flatnonzero(targets)[:60]])  # mostly label 0
    q, p, targets = q[kept], p[kept], targets[kept]
    fused = fit_stacked(q, p, targets, 3).predict(q, p)
    by_label = np.array([fused[targets == label].mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(by_label.mean(axis=0), 1 / 3, atol=1e-3)


def test_its_penalty_is_the_best_for_left_out_speakers():
    """Against brute force: each strength fitted without each speaker, by likelihood with balanced labels."""
    q, p, targets = labelled(120, 3, seed=3)
    speakers = np.repeat(["a", "b", "c", "d", "e"], 24)
    weights = 1 / np.bincount(targets)[targets]
    inputs = np.log(np.hstack([q, p]))
    losses = []
    for c in STRENGTHS:
        loss = 0.0
        for one in "abcde":
            own = speakers == one
            model = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
            model.fit(inputs[~own], targets[~own])
            right = model.predict_proba(inputs[own])[np.arange(own.sum()), targets[own]]
            loss -= weights[own] @ np.log(right)
        losses.append(loss)
    found = fit_stacked(q, p, targets, 3, speakers)
    assert found.c == STRENGTHS[int(np.argmin(losses))]


def test_noise_gets_a_stronger_penalty_than_information():
    speakers = np.repeat(np.arange(6), 20)
    q, p, targets = labelled(120, 3)
    noise = np.random.default_rng(1).permutation(targets)
    strong, weak = fit_stacked(q, p, noise, 3, speakers).c, fit_stacked(q, p, targets, 3, speakers).c
    assert strong == STRENGTHS[0] < weak


@pytest.mark.parametrize("speakers", [None, ["a"] * 60])
def test_its_penalty_is_1_without_two_speakers(speakers):
    q, p, targets = labelled(60, 3)
    assert fit_stacked(q, p, targets, 3, speakers).c == 1.0


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
