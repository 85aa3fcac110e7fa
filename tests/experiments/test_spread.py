import numpy as np
import pytest

from zsfuse_ray.experiments.spread import spread
from zsfuse_ray.method import metrics

SPEAKERS = [f"s{n}" for n in range(6)]


def fold(seed: int, n: int) -> dict:
    """Two speakers with 20 clips each."""
    rng = np.random.default_rng([seed, n])
    targets = np.random.default_rng(n).integers(0, 3, 40)
    predicted = np.where(rng.random(40) < 0.7, targets, rng.integers(0, 3, 40))
    of = {name: getattr(metrics, name)(targets, predicted, 3) for name in ("ua", "wa", "macro_f1")}
    speakers = [SPEAKERS[2 * n + i % 2] for i in range(40)]
    return {
        "systems": {"x": of | {"ece": 0.1}},
        "targets": targets.tolist(),
        "speakers": speakers,
        "predictions": {"x": predicted.tolist()},
    }


def test_means_and_deviations_over_folds_and_seeds():
    folds = [[fold(seed, n) for n in range(3)] for seed in range(4)]
    ua = spread(folds, 3, 200)["x"]["ua"]
    values = np.array([[one["systems"]["x"]["ua"] for one in of_seed] for of_seed in folds])
    assert ua["mean"] == pytest.approx(values.mean())
    assert ua["folds"] == pytest.approx(np.std(values.mean(axis=0), ddof=1))
    assert ua["seeds"] == pytest.approx(np.std(values.mean(axis=1), ddof=1))
    assert ua["by_fold"] == pytest.approx(values.mean(axis=0))
    assert ua["low"] < ua["mean"] < ua["high"]


def test_one_seed_or_few_speakers_have_no_spread():
    alone = spread([[fold(0, n) for n in range(3)]], 3, 200)["x"]["ua"]
    assert alone["seeds"] is None
    one = spread([[fold(0, 0)], [fold(1, 0)]], 3, 200)["x"]["ua"]
    assert one["folds"] is None
    assert (one["low"], one["high"]) == (None, None)
