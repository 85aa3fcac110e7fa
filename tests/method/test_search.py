"""The search over subsets and weights gives the same scores as evaluating each configuration separately."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.method import metrics
from zsfuse_ray.method.fusion import RULES, fuse
from zsfuse_ray.method.search import Block, fold_scores, members, prompt_gram, prompt_scores, sizes, subsets
from zsfuse_ray.method.zeroshot import posterior

SCALE = 15.0


def data(seed: int, n: int = 30, n_labels: int = 4, n_prompts: int = 4, folds: int = 3):
    rng = np.random.default_rng(seed)

    def unit(*size: int) -> np.ndarray:
        x = rng.normal(size=size)
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)

    audio, text = unit(n, 8), unit(n_prompts, n_labels, 8)
    specialist = rng.dirichlet(np.ones(n_labels), size=n)
    return audio, text, specialist, rng.integers(0, n_labels, n), np.arange(n) % folds


def block(audio, text, specialist, targets, folds, inside=None, **how) -> Block:
    n_labels = text.shape[1]
    inside = np.ones(n_labels, bool) if inside is None else inside
    scores, gram = prompt_scores(audio, text, SCALE), prompt_gram(text)
    return Block(scores, gram, specialist, inside, targets, folds, **how)


def brute(p, specialist, targets, folds, inside, weight, how) -> list[float]:
    """Evaluate one configuration on each fold with the plain functions."""
    fused = p if specialist is None else fuse(specialist, p, weight, how["fusion"], inside)
    found = []
    for fold in np.unique(folds):
        rows = folds == fold
        if how["objective"] == "nll":
            found.append(-metrics.nll(fused[rows], targets[rows]))
        else:
            measure = getattr(metrics, how["objective"])
            found.append(measure(targets[rows], fused[rows].argmax(axis=1), fused.shape[1]))
    return found


def searched(b: Block, masks: np.ndarray, dtype=np.float32) -> np.ndarray:
    return np.concatenate([scores for _, scores in fold_scores(b, masks, dtype)])


def check(parts, inside, how, dtype) -> None:
    b = block(*parts, inside, **how)
    masks = subsets(len(parts[1]))
    found = searched(b, masks, dtype)
    assert found.shape == (len(masks), 3, len(b.weights))
    audio, text, specialist, targets, folds = parts
    atol = 1e-5 if dtype == np.float32 else 1e-9
    for k, chosen in enumerate(members(masks, len(text))):
        p = posterior(audio, text[chosen], SCALE, how["ensemble"], how["temperature"])
        for w, weight in enumerate(b.weights):
            expected = brute(p, specialist, targets, folds, b.inside, weight, how)
            np.testing.assert_allclose(found[k, :, w], expected, atol=atol)


@pytest.mark.parametrize("objective", ["ua", "wa", "macro_f1", "nll"])
@pytest.mark.parametrize("fusion", sorted(RULES))
@pytest.mark.parametrize("ensemble", ["embedding", "logit", "probability"])
def test_search_equals_brute_force(ensemble, fusion, objective):
    how = {"ensemble": ensemble, "fusion": fusion, "objective": objective, "temperature": 0.7}
    check(data(1, n_prompts=2), None, how, np.float32)


@pytest.mark.parametrize("objective", ["ua", "macro_f1", "nll"])
@pytest.mark.parametrize("fusion", sorted(RULES))
def test_search_equals_brute_force_with_uncovered_labels(fusion, objective):
    audio, text, specialist, targets, folds = data(2, n_prompts=3)
    inside = np.array([True, True, False, True])
    specialist = specialist * inside / (specialist * inside).sum(axis=1, keepdims=True)
    how = {"ensemble": "embedding", "fusion": fusion, "objective": objective, "temperature": 1.3}
    check((audio, text, specialist, targets, folds), inside, how, np.float32)


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.integers(2, 5),
    st.sampled_from(["embedding", "logit", "probability"]),
    st.sampled_from(sorted(RULES)),
    st.sampled_from([0.3, 1.0, 5.0]),
)
def test_search_equals_brute_force_on_random_data(seed, n_labels, ensemble, fusion, temperature):
    how = {"ensemble": ensemble, "fusion": fusion, "objective": "ua", "temperature": temperature}
    check(data(seed, n=12, n_labels=n_labels, n_prompts=2), None, how, np.float64)


@pytest.mark.parametrize("fusion", sorted(RULES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_go_to_the_first_label(fusion, dtype):
    """Labels with equal prompts, uniform and one-hot specialist posteriors: ties at w = 0, 1 and all w."""
    audio, text, specialist, targets, folds = data(3, n_prompts=2)
    text[:, 2] = text[:, 0]
    specialist[:10] = 0.25
    specialist[10:20, 2] = specialist[10:20, 0]
    specialist[20:24] = [0, 1, 0, 0]
    specialist /= specialist.sum(axis=1, keepdims=True)
    how = {"ensemble": "logit", "fusion": fusion, "objective": "macro_f1", "temperature": 1.0}
    check((audio, text, specialist, targets, folds), None, how, dtype)


@pytest.mark.parametrize("fusion", sorted(RULES))
def test_search_without_a_specialist(fusion):
    audio, text, _, targets, folds = data(4, n_prompts=3)
    how = {"ensemble": "embedding", "fusion": fusion, "objective": "ua", "temperature": 1.0}
    check((audio, text, None, targets, folds), None, how, np.float32)


def test_label_missing_from_a_fold_is_ignored_there():
    audio, text, specialist, targets, folds = data(5, n_prompts=2)
    targets[folds == 1] = np.where(targets[folds == 1] == 3, 0, targets[folds == 1])
    how = {"ensemble": "embedding", "fusion": "linear", "objective": "ua", "temperature": 1.0}
    check((audio, text, specialist, targets, folds), None, how, np.float32)


def test_subsets_are_complete_and_sorted_by_size():
    found = subsets(5)
    assert len(set(found.tolist())) == 31
    assert (np.diff(sizes(found)) >= 0).all()
    assert members(np.array([0b10100], np.uint64), 5).tolist() == [[False, False, True, False, True]]


def test_chunking_does_not_change_scores():
    parts = data(6, n=300, n_prompts=6)
    b = block(*parts)
    masks = subsets(6)
    whole = searched(b, masks)
    single = np.concatenate([searched(b, masks[k : k + 1]) for k in range(len(masks))])
    np.testing.assert_allclose(whole, single, atol=1e-12)


def test_memory_does_not_grow_with_subsets_and_weights():
    """20,000 clips: the scores of 1,000 subsets would take 640 MB, of all weights a hundred times that."""
    b = block(*data(7, n=20_000, n_labels=8, n_prompts=10))
    tracemalloc.start()
    for _ in fold_scores(b, subsets(10)[:200]):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * b.scores.nbytes + 50e6
