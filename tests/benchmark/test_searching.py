"""The naive evaluation equals the search, and its cost is extrapolated correctly."""

import numpy as np
import pytest

from zsfuse_ray.benchmark.searching import Labelled, Searched, compared, score_one
from zsfuse_ray.method.search import Block, fold_scores, members, prompt_gram, prompt_scores, subsets
from zsfuse_ray.runs.cluster import cores


def test_naive_evaluation_equals_the_search():
    rng = np.random.default_rng(0)
    n, labels, prompts, dim = 60, 3, 4, 16

    def directions(*size: int) -> np.ndarray:
        found = rng.standard_normal((*size, dim)).astype(np.float32)
        return found / np.linalg.norm(found, axis=-1, keepdims=True)

    audio, text, folds = directions(n), directions(prompts, labels), np.arange(n) % 3
    targets, q = rng.integers(labels, size=n), rng.dirichlet(np.ones(labels), n)
    inside = np.ones(labels, bool)
    clips = Labelled(("a", "b", "c"), targets, folds, q, inside)
    block = Block(prompt_scores(audio, text, 5.0), prompt_gram(text), q, inside, targets, folds)
    for masks, found in fold_scores(block, subsets(prompts), np.float64):
        for mask, by_fold in zip(masks, found, strict=True):
            chosen = text[members(np.array([mask]), prompts)[0]]
            for w in (0, 37, 100):
                one = score_one(clips, audio, chosen, 5.0, w / 100)
                assert one == pytest.approx(by_fold[:, w].mean(), abs=1e-12)


def test_ratios_are_to_the_search_of_the_same_configurations():
    times = [np.array([1.0, 0.5, 0.1]), np.array([3.0, 0.5, 0.1])]
    searched = [Searched(search_s=10.0, whole_s=50.0, configurations=1000)]
    figures = {figure.what: figure for figure in compared(times, 30.0, searched, 5, 48)}
    each = (1.0 * 30 + 0.5 + 0.1 / cores(), 3.0 * 30 + 0.5 + 0.1 / cores())
    assert figures["one configuration, audio and text re-embedded"].values == pytest.approx(each)
    ratio = figures["ratio to the whole tuning"].values
    assert ratio == pytest.approx([1000 * seconds / 50 for seconds in each])
    kept = figures["ratio to the search alone"].values
    assert kept == pytest.approx([1000 * 0.1 / cores() / 10] * 2)


def test_without_a_search_there_are_no_ratios():
    assert len(compared([np.ones(3)], 1.0, [], 5, 48)) == 2
