"""A summary contains the best of all configurations."""

from dataclasses import replace

import numpy as np
import pytest

import zsfuse_ray.experiments.tune.summary as summary_module
from tests.experiments.synthetic import config, evidence
from zsfuse_ray.experiments.tune.configurations import block_of, distinct_settings
from zsfuse_ray.experiments.tune.summary import from_table, summarise, to_table, training_sets
from zsfuse_ray.method.search import fold_scores, sizes, subsets


@pytest.fixture(scope="module")
def searched():
    e = evidence()
    return block_of(e, distinct_settings(e, config())[0], "ua")


def test_each_entry_is_the_maximum_over_its_subsets(searched):
    summary, table = summarise(searched)
    masks = subsets(4)
    scores = np.concatenate([found for _, found in fold_scores(searched, masks)])
    sets = training_sets(4)
    assert summary.tried == len(masks) * 101 == len(table) * 101
    for s in range(5):
        mean = np.tensordot(scores, sets[s], axes=(1, 0))
        for prompts in range(1, 5):
            of_size = np.flatnonzero(sizes(masks) == prompts)
            np.testing.assert_allclose(summary.score[s, prompts - 1], mean[of_size].max(axis=0))
            for w in (0, 37, 100):
                place = np.flatnonzero(masks == summary.subset[s, prompts - 1, w])[0]
                assert place in of_size
                np.testing.assert_allclose(summary.folds[s, prompts - 1, w], scores[place, :, w], rtol=1e-6)
    best = table["score"].to_numpy()[np.argsort(table["subset"].to_numpy())]
    np.testing.assert_allclose(best, scores.mean(axis=1).max(axis=1)[np.argsort(masks)], rtol=1e-6)


def test_table_round_trip(searched):
    summary, _ = summarise(searched)
    again = from_table(to_table(summary, searched.weights))
    for name in ("score", "subset", "folds", "tried"):
        np.testing.assert_array_equal(getattr(again, name), getattr(summary, name))


def test_many_prompts_are_added_greedily(searched, monkeypatch):
    every, _ = summarise(searched)
    monkeypatch.setattr(summary_module, "EXHAUSTIVE", 3)
    monkeypatch.setattr(summary_module, "refine", lambda *given, **named: None)
    greedy, table = summarise(searched)
    np.testing.assert_allclose(greedy.score[:, 0], every.score[:, 0])  # all single prompts are tried
    np.testing.assert_allclose(greedy.score[:, -1], every.score[:, -1])  # and the whole bank
    assert (greedy.score <= every.score + 1e-9).all()
    assert len(table) == 4 + 3 + 2 + 1
    for s in range(5):  # a step adds one prompt to the previous best
        best = greedy.score[s, 0].argmax()
        assert (greedy.subset[s, 1] & greedy.subset[s, 0, best] == greedy.subset[s, 0, best]).all()


def test_better_proposals_replace_greedy_subsets(monkeypatch):
    """All 255 subsets of 8 prompts are known: greedy selection misses the best, proposals come closer."""
    e = evidence(seed=3, templates=8)
    searched = block_of(e, distinct_settings(e, config(8))[0], "ua")
    every, _ = summarise(searched)
    monkeypatch.setattr(summary_module, "EXHAUSTIVE", 3)
    refined, table = summarise(searched)
    again, _ = summarise(searched)
    monkeypatch.setattr(summary_module, "refine", lambda *given, **named: None)
    greedy, _ = summarise(searched)
    assert (refined.score >= greedy.score - 1e-9).all()
    assert (refined.score <= every.score + 1e-9).all()
    best = [one.score.max(axis=(1, 2)).mean() for one in (greedy, refined, every)]
    assert best[0] < best[1] <= best[2]
    assert len(table) == len(set(table["subset"].to_pylist())) > 55
    np.testing.assert_array_equal(again.subset, refined.subset)


def test_left_out_fold_does_not_affect_greedy_selection(searched, monkeypatch):
    monkeypatch.setattr(summary_module, "EXHAUSTIVE", 3)
    targets = searched.targets.copy()
    targets[searched.folds == 2] = np.random.default_rng(0).permutation(targets[searched.folds == 2])
    before, after = summarise(searched)[0], summarise(replace(searched, targets=targets))[0]
    np.testing.assert_array_equal(before.subset[2], after.subset[2])
    np.testing.assert_array_equal(before.score[2], after.score[2])


def test_no_op_copies_get_no_block():
    e = evidence()
    options = config()
    assert len(distinct_settings(e, options)) == 2 * 2 * 2 * 2
    alm = e.alms["alm"]
    same = replace(e, alms={"alm": replace(alm, audio={1: alm.audio[1], 2: alm.audio[1].copy()})})
    assert {setting.a for setting in distinct_settings(same, options)} == {1}
    assert len(distinct_settings(same, options)) == 2 * 2 * 2
