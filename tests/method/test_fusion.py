import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import RULES, entropy, fuse, specialist_on_labels
from zsfuse_ray.method.labels import map_labels

seeds = st.integers(0, 2**32 - 1)
weights = st.floats(0, 1)


def posteriors(rng: np.random.Generator, n: int, c: int, zeros: float = 0.0) -> NDArray:
    """Return posteriors from flat to nearly one-hot; a share of entries is 0, at least one is positive."""
    x = rng.gamma(rng.choice([0.1, 1, 10], size=(n, 1)), size=(n, c)) + 1e-9
    keep = rng.random((n, c)) >= zeros
    keep[np.arange(n), rng.integers(0, c, n)] = True
    x = np.where(keep, x, 0)
    return x / x.sum(axis=1, keepdims=True)


def brute_force(q: NDArray, p: NDArray, w: float, rule: str, inside: NDArray) -> NDArray:
    """Row by row: the ALM's mass m on uncovered labels is kept, fusion distributes 1 - m on the others."""
    fused = p.copy()
    for row in range(len(p)):
        m = sum(p[row, c] for c in range(p.shape[1]) if not inside[c])
        q_in, p_in = q[row, inside], p[row, inside] / (1 - m)
        pool = (
            (1 - w) * q_in + w * p_in
            if rule == "linear"
            else np.exp((1 - w) * np.log(q_in) + w * np.log(p_in))
        )
        fused[row, inside] = (1 - m) * pool / pool.sum()
    return fused


@pytest.mark.parametrize("rule", RULES)
@given(seed=seeds, weight=weights)
def test_fuse_equals_its_definition(rule, seed: int, weight: float):
    rng = np.random.default_rng(seed)
    inside = np.arange(5) < rng.integers(1, 6)
    q = np.where(inside, posteriors(rng, 4, 5), 0)
    q /= q.sum(axis=1, keepdims=True)
    p = posteriors(rng, 4, 5)
    np.testing.assert_allclose(
        fuse(q, p, weight, rule, inside), brute_force(q, p, weight, rule, inside), atol=1e-9
    )


@pytest.mark.parametrize("rule", RULES)
@given(seed=seeds, weight=weights)
def test_fuse_returns_a_posterior_for_zeros(rule, seed: int, weight: float):
    rng = np.random.default_rng(seed)
    inside = rng.permutation(6) < rng.integers(1, 7)
    q = np.zeros((8, 6))
    q[:, inside] = posteriors(rng, 8, inside.sum(), zeros=0.6)
    p = posteriors(rng, 8, 6, zeros=0.6)
    fused = fuse(q, p, weight, rule, inside)
    assert (fused >= 0).all()
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    np.testing.assert_array_equal(fused[:, ~inside], p[:, ~inside])


@pytest.mark.parametrize("rule", RULES)
@given(seed=seeds)
def test_weights_0_and_1_return_the_inputs_exactly(rule, seed: int):
    rng = np.random.default_rng(seed)
    q, p = posteriors(rng, 4, 5, zeros=0.3), posteriors(rng, 4, 5, zeros=0.3)
    np.testing.assert_array_equal(fuse(q, p, 0, rule, np.ones(5, bool)), q)
    np.testing.assert_array_equal(fuse(q, p, 1, rule, rng.random(5) < 0.5), p)


@pytest.mark.parametrize("rule", RULES)
@given(seed=seeds, weight=weights)
def test_fuse_is_equivariant_to_permutations(rule, seed: int, weight: float):
    rng = np.random.default_rng(seed)
    q, p, inside = posteriors(rng, 6, 5), posteriors(rng, 6, 5), np.arange(5) < 3
    labels, clips = rng.permutation(5), rng.permutation(6)
    q[:, ~inside] = 0
    plain = fuse(q, p, weight, rule, inside)
    shuffled = fuse(q[clips][:, labels], p[clips][:, labels], weight, rule, inside[labels])
    np.testing.assert_allclose(shuffled, plain[clips][:, labels])


def test_loglinear_falls_back_to_linear_for_disjoint_supports():
    q, p = np.array([[1.0, 0, 0], [0.5, 0.5, 0]]), np.array([[0, 0.4, 0.6], [0, 0.4, 0.6]])
    fused = fuse(q, p, 0.25, "loglinear", np.ones(3, bool))
    np.testing.assert_allclose(fused, [[0.75, 0.1, 0.15], [0, 1, 0]])


def test_alm_without_mass_on_covered_labels_is_unchanged():
    fused = fuse([[0.3, 0.7, 0]], [[0, 0, 1]], 0.5, "loglinear", np.array([True, True, False]))
    np.testing.assert_array_equal(fused, [[0, 0, 1]])


def test_fuse_does_not_modify_its_arguments():
    q, p = np.array([[0.3, 0.7]]), np.array([[0.6, 0.4]])
    for weight in (0, 0.5, 1):
        fuse(q, p, weight, "linear", np.ones(2, bool))[:] = 9
    assert q.tolist() == [[0.3, 0.7]]
    assert p.tolist() == [[0.6, 0.4]]


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weight_outside_0_to_1_is_an_error(weight: float):
    with pytest.raises(InputError, match="between 0 and 1"):
        fuse([[0.5, 0.5]], [[0.5, 0.5]], weight, "linear", np.ones(2, bool))


@pytest.mark.parametrize("rule", ["log-linear", "Linear", "geometric", ""])
def test_unknown_rule_is_an_error_with_the_nearest_names(rule: str):
    with pytest.raises(InputError, match=r"no fusion rule .*linear"):
        fuse([[0.5, 0.5]], [[0.5, 0.5]], 0.5, rule, np.ones(2, bool))


def test_rules_are_keyed_by_name():
    assert all(name == rule.name and rule.about for name, rule in RULES.items())


def test_specialist_on_labels():
    mapping = map_labels(["neu", "hap", "exc", "ang"], ["angry", "calm", "happy"])
    q = [[0.1, 0.3, 0.4, 0.2], [1, 0, 0, 0], [1 - 1e-20, 0, 0, 1e-20]]
    np.testing.assert_allclose(
        specialist_on_labels(np.log(np.maximum(q, 1e-30)), mapping),
        [[0.4, 0, 0.6], [0.5, 0, 0.5], [0.5, 0, 0.5]],
    )


def test_a_low_temperature_keeps_the_order_of_mapped_labels():
    """Also where a label that is not mapped has nearly all the mass."""
    mapping = map_labels(["neutral", "happy", "angry"], ["angry", "happy"])
    found = specialist_on_labels([[9.0, 1.0, 0.0]], mapping, 0.05)
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(20)), 1 / (1 + np.exp(-20))]])


@given(seeds, st.floats(0.2, 5))
def test_temperature_of_logits_before_they_are_mapped(seed: int, temperature: float):
    logits = np.random.default_rng(seed).normal(size=(4, 4)) * 3
    mapping = map_labels(["neu", "hap", "exc", "ang"], ["angry", "calm", "happy"])
    mass = np.exp(logits / temperature) @ mapping
    expected = mass / mass.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(specialist_on_labels(logits, mapping, temperature), expected)


@given(seeds)
def test_specialist_on_permuted_labels_is_permuted(seed: int):
    rng = np.random.default_rng(seed)
    labels, order = ["happy", "sad", "angry", "neutral"], rng.permutation(4)
    q = posteriors(rng, 5, 4)
    mapped = specialist_on_labels(np.log(q), map_labels(labels, [labels[i] for i in order]))
    np.testing.assert_allclose(mapped, q[:, order])


def test_specialist_without_common_labels_is_an_error():
    with pytest.raises(InputError, match="none of the labels"):
        specialist_on_labels([[0.5, 0.5]], map_labels(["happy", "sad"], ["eerie", "smug"]))


def test_entropy():
    np.testing.assert_allclose(entropy([[0.5, 0.5, 0], [1, 0, 0]]), [np.log(2), 0])
    p = posteriors(np.random.default_rng(0), 20, 5)
    np.testing.assert_allclose(entropy(p), -(p * np.log(p)).sum(axis=1))
