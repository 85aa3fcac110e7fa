"""The learning curve: draws without leaks, pools of models with different labels, and its document."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dev.learning_curve.amplification import grid
from dev.learning_curve.curve import SPECIALIST, _speakers, curve, draw, pooled
from dev.learning_curve.material import Repeated, Target
from dev.learning_curve.tables import figure, tables
from zsfuse_ray.method.zeroshot import softmax

ROOT = Path(__file__).parents[2]
LABELS = ("angry", "happy", "sad")


def target(seed: int = 0, n_speakers: int = 9, each: int = 18) -> Target:
    """Nine speakers; an informative ALM, and a control that does not know the last label."""
    rng = np.random.default_rng(seed)
    n = n_speakers * each
    targets = np.arange(n) % len(LABELS)
    speakers = np.repeat([f"s{i}" for i in range(n_speakers)], each)
    voices = 2.0 * rng.normal(size=(n_speakers, 20))[np.repeat(np.arange(n_speakers), each)]
    vectors = np.eye(20)[targets] + voices + rng.normal(size=(n, 20))
    scores = 2 * np.eye(3)[targets] + rng.normal(size=(n, 3))
    known = np.array([True, True, False])
    repeated = Repeated(targets, speakers, {(a, b): scores / a for a in (1, 2) for b in (1, 2)})
    return Target(LABELS, targets, speakers, vectors.astype(np.float32), scores, scores, known, 100, repeated)


@pytest.fixture(scope="module")
def result() -> dict:
    one = target()
    corpus = {
        "curve": curve(one, [draw(one, n, 0) for n in range(3)], 200),
        "amplification": grid(one.repeated, 3, 200),
    }
    return {"corpora": {"ravdess": corpus}}


def test_labelled_speakers_are_nested_and_never_tested():
    one = target()
    found = {k: (set(one.speakers[rows]), set(one.speakers[test])) for k, rows, test in _draws(one)}
    assert [len(labelled) for labelled, _ in found.values()] == [1, 2, 4, 6]
    assert len({frozenset(tested) for _, tested in found.values()}) == 1
    for labelled, tested in found.values():
        assert not labelled & tested
    assert found["1"][0] < found["2"][0] < found["4"][0] < found["all"][0]


def _draws(one: Target):
    return list(_speakers(one, np.random.default_rng(3)))


def test_labels_of_tested_clips_change_no_prediction():
    one = target()
    usual = draw(one, 0, 0)["2"]
    tested = usual.rows
    wrong = one.targets.copy()
    wrong[tested] = (wrong[tested] + 1) % 3
    again = draw(replace(one, targets=wrong), 0, 0)["2"]
    for name, predicted in usual.predicted.items():
        np.testing.assert_array_equal(predicted, again.predicted[name])


def test_gains_are_over_the_specialist(result):
    systems = result["corpora"]["ravdess"]["curve"]["1"]["systems"]
    for of in systems.values():
        expected = of["ua"]["value"] - systems[SPECIALIST]["ua"]["value"]
        assert of["gain"]["value"] == pytest.approx(expected)
    assert systems["loglinear_alm"]["gain"]["value"] > 0.05  # one speaker, and an informative ALM


def test_the_grid_is_over_one_copy_of_each(result):
    found = result["corpora"]["ravdess"]["amplification"]
    assert set(found) == {"1,1", "1,2", "2,1", "2,2"}
    assert all(of["gain"]["value"] == 0 for of in found.values())  # scaled scores have the same labels


def test_a_label_that_only_one_model_has_keeps_its_posterior():
    rng = np.random.default_rng(0)
    q, p = (softmax(rng.normal(size=(5, 3))) for _ in range(2))
    known, every = np.array([True, True, False]), np.ones(3, bool)
    p = np.where(known, p, 0) / np.where(known, p, 0).sum(axis=1, keepdims=True)
    for rule in ("linear", "loglinear"):
        fused = pooled(q, p, 0.3, rule, every, known)
        np.testing.assert_allclose(fused.sum(axis=1), 1)
        np.testing.assert_allclose(fused[:, 2], q[:, 2])
    inside = np.array([True, False, True])  # the specialist has not learned the second label
    alm = softmax(rng.normal(size=(5, 3)))
    q = np.where(inside, q, 0) / np.where(inside, q, 0).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled(q, alm, 0.3, "linear", inside, every)[:, 1], alm[:, 1])


def test_the_figure_has_a_panel_for_each_corpus(result):
    assert len(figure(result).axes) == 1


def test_the_document_has_the_numbers_of_the_run():
    stored = json.loads((ROOT / "docs" / "when_it_pays.json").read_text())
    document = (ROOT / "docs" / "when_it_pays.md").read_text()
    rows = [line for line in tables(stored).splitlines() if line]
    assert len(rows) > 50
    assert [line for line in document.splitlines() if line.startswith("|")] == rows
