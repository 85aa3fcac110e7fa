import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tests.experiments.synthetic import evidence, split_round
from zsfuse_ray.experiments import baseline
from zsfuse_ray.experiments.baseline import svm_posteriors

DATA = evidence()
ROUND = split_round(DATA)


def posteriors(targets=DATA.targets, features=DATA.features, train=ROUND.train, speakers=DATA.speakers):
    found = svm_posteriors(features, targets, speakers, train, 4)
    assert found is not None
    return found


def test_predictions_equal_scikit_learn():
    found, about = posteriors()
    options = {"C": about["C"], "gamma": about["gamma × features"] / 8, "class_weight": "balanced"}
    reference = make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(**options)))
    reference.fit(DATA.features[ROUND.train], DATA.targets[ROUND.train])
    expected = reference.predict(DATA.features[ROUND.test])
    assert (found[ROUND.test].argmax(axis=1) == expected).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert balanced_accuracy_score(DATA.targets[ROUND.test], expected) > 0.5


def test_labels_of_other_clips_have_no_effect():
    targets = DATA.targets.copy()
    targets[len(ROUND.train) :] = np.random.default_rng(0).permutation(targets[len(ROUND.train) :])
    assert (posteriors(targets)[0] == posteriors()[0]).all()


def test_training_clips_get_out_of_fold_predictions():
    """Features identify the speaker, whose clips share one label: only in-fold training could fit them."""
    targets = np.repeat(np.arange(12) % 4, 20)
    features = np.repeat(np.random.default_rng(0).normal(size=(12, 8)), 20, axis=0).astype(np.float32)
    found, _ = posteriors(targets, features, np.arange(240))
    assert (found.argmax(axis=1) == targets).mean() < 0.6


def test_untrained_label_is_never_predicted():
    train = ROUND.train[DATA.targets[ROUND.train] != 2]
    found, _ = posteriors(train=train)
    assert 2 not in found[ROUND.test].argmax(axis=1)
    assert np.isfinite(found).all()


def test_two_labels():
    targets = DATA.targets % 2
    found = svm_posteriors(np.eye(4)[targets].astype(np.float32), targets, DATA.speakers, ROUND.train, 2)
    assert found is not None
    assert (found[0].argmax(axis=1) == targets).all()


@pytest.mark.parametrize("alike", ["speakers", "targets"])
def test_none_without_two_speakers_and_two_labels(alike):
    given = {"speakers": DATA.speakers, "targets": DATA.targets}
    given[alike] = np.full_like(given[alike], given[alike][0])
    assert svm_posteriors(DATA.features, given["targets"], given["speakers"], ROUND.train, 4) is None


def test_large_training_sets_are_subsampled(monkeypatch):
    whole, _ = posteriors()
    monkeypatch.setattr(baseline, "MOST_CLIPS", 60)
    sampled, _ = posteriors()
    assert not np.allclose(sampled, whole)
    assert balanced_accuracy_score(DATA.targets[ROUND.test], sampled[ROUND.test].argmax(axis=1)) > 0.4
