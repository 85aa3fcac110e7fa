import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.logistic import fit_at
from zsfuse_ray.method.probe import STRENGTHS, fit_probe, inner_folds
from zsfuse_ray.method.zeroshot import softmax

LABELS = 3


def labelled(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of several scales, their targets, and six speakers."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, LABELS, n)
    means = np.random.default_rng(9).normal(size=(LABELS, size))
    vectors = (0.7 * means[targets] + rng.normal(size=(n, size))) * np.linspace(0.1, 10, size) + 4
    return vectors, targets, np.array([f"s{i % 6}" for i in range(n)])


def test_it_is_the_regression_on_standardised_vectors_with_the_penalty_it_names() -> None:
    vectors, targets, speakers = labelled(120, 8)
    probe, _ = fit_probe(vectors, targets, LABELS, inner_folds(speakers, targets))
    assert probe.classifier.c in STRENGTHS
    standard = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    model = LogisticRegression(C=probe.classifier.c, class_weight="balanced", max_iter=1000, tol=1e-8)
    expected = model.fit(standard, targets).predict_proba(standard)
    np.testing.assert_allclose(softmax(probe.logits(vectors)), expected, atol=1e-4)


def test_left_out_logits_are_those_of_a_probe_without_the_group() -> None:
    vectors, targets, speakers = labelled(90, 6)
    groups = inner_folds(speakers, targets)
    probe, left_out = fit_probe(vectors, targets, LABELS, groups)
    standard = (vectors - probe.mean) / probe.deviation
    held = groups == 2
    model = LogisticRegression(C=probe.classifier.c, class_weight="balanced", max_iter=1000, tol=1e-8)
    expected = model.fit(standard[~held], targets[~held]).predict_proba(standard[held])
    np.testing.assert_allclose(softmax(left_out[held]), expected, atol=1e-4)


def test_left_out_logits_do_not_know_the_labels_of_their_clips() -> None:
    rng = np.random.default_rng(0)
    vectors, targets = rng.normal(size=(60, 200)), rng.integers(0, LABELS, 60)
    probe, left_out = fit_probe(vectors, targets, LABELS, np.arange(60) % 5)
    assert (probe.logits(vectors).argmax(axis=1) == targets).mean() > 0.95  # fewer clips than values
    assert (left_out.argmax(axis=1) == targets).mean() < 0.6


def test_few_clips_of_many_values_have_the_same_classifier() -> None:
    vectors, targets, _ = labelled(30, 100)
    few = fit_at(vectors, targets, LABELS, 0.01)
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=10_000, tol=1e-8)
    model.fit(vectors, targets)
    np.testing.assert_allclose(few.coef - few.coef.mean(axis=0), model.coef_, atol=1e-4)


def test_a_label_without_clips_has_probability_0_and_a_single_label_is_an_error() -> None:
    vectors, targets, speakers = labelled(60, 5)
    probe, _ = fit_probe(vectors, targets, LABELS + 1, inner_folds(speakers, targets))
    assert softmax(probe.logits(vectors))[:, LABELS].max() == 0
    with pytest.raises(InputError, match="at least two labels"):
        fit_probe(vectors, np.zeros(60, int), LABELS, inner_folds(speakers, targets))


def test_inner_folds_share_no_speaker_and_follow_the_seed() -> None:
    speakers = np.array([f"s{i % 7}" for i in range(70)])
    folds = [inner_folds(speakers, np.zeros(70), seed) for seed in (0, 0, 1)]
    assert set(folds[0]) == set(range(5))
    for name in np.unique(speakers):
        assert len(set(folds[0][speakers == name])) == 1
    np.testing.assert_array_equal(folds[0], folds[1])
    assert (folds[0] != folds[2]).any()


@pytest.mark.parametrize("speakers", [["one"] * 40, ["a", ""] * 20])
def test_inner_folds_of_one_or_of_unknown_speakers_are_balanced_over_labels(speakers: list[str]) -> None:
    targets = np.arange(40) % 4
    folds = inner_folds(speakers, targets)
    counts = np.array([np.bincount(folds[targets == label], minlength=5) for label in range(4)])
    assert counts.min() == counts.max() == 2
