"""Group normalisation against a loop over groups, and its limits."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zsfuse_ray.method.normalise import Sums, normalised


@example([0, 0, 0, 0, 0, 0, 0, 1], 0.25, 4)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.floats(0.1, 100), st.integers(0, 99))
def test_normalised_equals_a_loop_over_groups(groups: list[int], shrinkage: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(1, 3, (len(groups), 4))
    found = normalised(vectors, [str(group) for group in groups], shrinkage)
    for place, group in enumerate(groups):
        own = vectors[[g == group for g in groups]]
        share = len(own) / (len(own) + shrinkage)
        scale = np.sqrt(share * own.var(axis=0) + 1 - share)
        np.testing.assert_allclose(
            found[place], (vectors[place] - share * own.mean(axis=0)) / scale, atol=1e-6
        )


def test_a_large_group_is_standardised_and_a_large_shrinkage_changes_nothing() -> None:
    vectors = np.random.default_rng(0).normal(2, 5, (500, 3))
    one = ["a"] * 500
    found = normalised(vectors, one, 1e-6)
    assert found.mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert found.std(axis=0) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(normalised(vectors, one, 1e12), vectors, rtol=1e-6)


def test_a_single_segment_keeps_its_deviation_from_training() -> None:
    vector = np.array([[3.0, -2.0]])
    expected = vector * (1 - 1 / 11) / np.sqrt(10 / 11)
    np.testing.assert_allclose(normalised(vector, ["a"], 10), expected, rtol=1e-6)


def test_the_type_is_kept() -> None:
    assert normalised(np.ones((2, 2), np.float32), ["a", "a"]).dtype == np.float32


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=30), st.integers(1, 29))
def test_sums_of_parts_add_up(groups: list[str], cut: int) -> None:
    vectors = np.random.default_rng(len(groups)).normal(0, 1, (len(groups), 3))
    cut = min(cut, len(groups) - 1)
    parts = [Sums.of(vectors[:cut], groups[:cut]), Sums.of(vectors[cut:], groups[cut:])]
    total, whole = Sums.total(parts), Sums.of(vectors, groups)
    assert total.groups == whole.groups
    for name in ("counts", "sums", "squares"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_sums_do_not_depend_on_the_order(seed: int) -> None:
    """Not even in the last bit: tables of a resumed run equal those of an undisturbed one."""
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(200, 2)) * 10).astype(np.float16).astype(np.float32)
    groups, order = rng.choice(list("abc"), 200), rng.permutation(200)
    one, other = Sums.of(vectors, groups), Sums.of(vectors[order], groups[order])
    parts = Sums.total([Sums.of(vectors[:70], groups[:70]), Sums.of(vectors[70:], groups[70:])])
    for name in ("counts", "sums", "squares"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(getattr(one, name), getattr(parts, name))
