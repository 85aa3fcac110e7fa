"""Records of metrics with their intervals."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from zsfuse_ray.experiments.intervals import Predictions, difference, interval, why_none
from zsfuse_ray.method import metrics

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 3, 240)
SPEAKERS = np.repeat([f"s{i}" for i in range(8)], 30)
GROUPS = np.repeat([0, 1], 120)


def predictions(skill: float, speakers: np.ndarray = SPEAKERS) -> Predictions:
    scores = skill * np.eye(3)[TARGETS] + np.random.default_rng(1).normal(size=(240, 3))
    posteriors = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(posteriors, TARGETS, speakers, GROUPS)


def test_a_value_is_the_mean_over_groups():
    p = predictions(1.0)
    parts = [balanced_accuracy_score(TARGETS[g == GROUPS], p.labels[g == GROUPS]) for g in (0, 1)]
    assert p.value("ua") == pytest.approx(np.mean(parts))
    nll = [metrics.nll(p.posteriors[g == GROUPS], TARGETS[g == GROUPS]) for g in (0, 1)]
    assert p.value("nll") == pytest.approx(np.mean(nll))


@pytest.mark.parametrize("metric", ["ua", "wa", "macro_f1", "ece"])
def test_interval_comes_from_the_draws(metric):
    p = predictions(1.0)
    draws = p.draws(metric, 300, seed=3)
    low, high = metrics.interval(draws, 8)
    assert p.interval(metric, 300, seed=3) == {"value": p.value(metric), "low": low, "high": high}
    assert low < high


def test_a_difference_is_paired():
    better, worse = predictions(2.0), predictions(0.5)
    gain = difference(better, worse, 300)
    assert gain["value"] == pytest.approx(better.value("ua") - worse.value("ua"))
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert difference(better, better, 300) == {"value": 0, "low": 0, "high": 0}


FEW = np.repeat([f"s{i}" for i in range(4)], 60)


@pytest.mark.parametrize(
    ("speakers", "number"),
    [(np.full(240, "a"), 1), (FEW, 4), (np.where(SPEAKERS == "s3", "", SPEAKERS), 0)],
)
def test_no_interval_without_five_known_speakers(speakers, number):
    p = predictions(1.0, speakers)
    assert p.n_speakers == number
    assert p.draws("ua", 100) is None
    assert p.interval("ua", 100) == interval(p.value("ua"), None, 0)
    assert p.interval("ua", 100)["low"] is None
    assert difference(p, p, 100) == {"value": 0, "low": None, "high": None}


def test_five_speakers_have_an_interval():
    p = predictions(1.0, np.repeat([f"s{i}" for i in range(5)], 48))
    assert p.interval("ua", 100)["low"] < p.value("ua")


def test_the_reason_is_given():
    assert why_none(5) is None
    assert why_none(0) == "some clips have no speaker"
    assert "fewer than five speakers (here 3) cannot give a 95 % interval" in str(why_none(3))
