"""The plan of an epoch: how often each clip is drawn, for any number of workers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.training.batches import draw, plan_epoch, sampling_weights, split

lengths = st.lists(st.integers(1, 400), min_size=1, max_size=60).map(np.array)


def even(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


@given(lengths, st.integers(400, 4000), st.integers(0, 5), st.integers(0, 3))
def test_without_balance_every_clip_is_drawn_once(
    samples: np.ndarray, budget: int, seed: int, epoch: int
) -> None:
    steps = plan_epoch(samples, even(len(samples)), budget, seed, epoch)
    assert sorted(np.concatenate([s.rows for s in steps]).tolist()) == list(range(len(samples)))


@given(lengths, st.integers(1, 4000), st.floats(0, 1))
def test_step_stays_within_its_budget(samples: np.ndarray, budget: int, mixup: float) -> None:
    for step in plan_epoch(samples, even(len(samples)), budget, 1, 2, mixup):
        assert len(step) == 1 or step.longest * len(step) <= budget
        assert step.longest == samples[step.rows].max()
        assert (np.diff(samples[step.rows]) <= 0).all()
        assert set(step.partners) <= set(step.rows)
        assert ((step.shares >= 0) & (step.shares <= 0.5)).all()


@given(lengths, st.integers(1, 5), st.integers(1, 3))
def test_workers_shares_partition_the_step(samples: np.ndarray, world: int, parts: int) -> None:
    (step, *_) = plan_epoch(samples, even(len(samples)), 10**9, 0, 0, 0.5)
    shares = [part for rank in range(world) for part in split(step, rank, world, parts)]
    for name in ("rows", "partners", "shares", "seeds"):
        together = np.concatenate([getattr(part, name) for part in shares])
        assert Counter(together.tolist()) == Counter(getattr(step, name).tolist())
    sizes = [sum(len(part) for part in split(step, rank, world, parts)) for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1


def test_seed_and_epoch_number_determine_an_epoch() -> None:
    samples = np.arange(100, 200)
    plans = [
        [(s.rows.tolist(), s.seeds.tolist()) for s in plan_epoch(samples, even(100), 2000, *which)]
        for which in ((3, 1), (3, 1), (3, 2), (4, 1))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert plans[0] != plans[3]


def test_clips_of_similar_length_share_a_step() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(16_000, 160_000, 500)
    steps = plan_epoch(samples, even(500), 16_000 * 64, 0, 0)
    padded = sum(s.longest * len(s) for s in steps)
    assert samples.sum() / padded > 0.85
    in_order = np.array([s.longest for s in steps])
    assert abs(np.corrcoef(in_order, np.arange(len(steps)))[0, 1]) < 0.4  # not from long to short


def test_no_tiny_step_at_the_end() -> None:
    steps = plan_epoch(np.full(33, 100), even(33), 800, 0, 0)
    assert sorted(len(s) for s in steps) == [4, 5, 8, 8, 8]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.floats(0, 1), st.integers(0, 9))
def test_draws_follow_the_weights(groups: list[int], power: float, seed: int) -> None:
    weights = sampling_weights(groups, power)
    assert weights.sum() == pytest.approx(1)
    rows = draw(weights, np.random.default_rng(seed))
    assert len(rows) == len(groups)
    number = np.bincount(rows, minlength=len(groups))
    wanted = weights * len(groups)
    assert (np.abs(number - wanted) < 1 + 1e-5).all()


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.floats(0, 1))
def test_group_weight_is_size_to_one_minus_power(groups: list[int], power: float) -> None:
    weights = sampling_weights(groups, power)
    of_group = Counter[int]()
    for group, weight in zip(groups, weights, strict=True):
        of_group[group] += weight
    shares = {g: n ** (1 - power) for g, n in Counter(groups).items()}
    for group, weight in of_group.items():
        assert weight == pytest.approx(shares[group] / sum(shares.values()))


def test_mixup_affects_the_requested_share() -> None:
    steps = plan_epoch(np.full(2000, 100), even(2000), 100 * 50, 0, 0, mixup=0.3)
    mixed = np.concatenate([s.shares for s in steps]) > 0
    assert mixed.mean() == pytest.approx(0.3, abs=0.04)
