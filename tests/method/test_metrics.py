from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, t
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
)

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.metrics import (
    confusion,
    drawn,
    ece,
    interval,
    macro_f1,
    nll,
    recalls,
    reliability,
    ua,
    wa,
)

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)
METRICS = {"ua": ua, "wa": wa, "macro_f1": macro_f1}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label")
@given(pairs)
def test_metrics_equal_scikit_learn(labelled: list[tuple[int, int]]):
    targets, predictions = np.array(labelled).T
    assert ua(targets, predictions, 6) == pytest.approx(balanced_accuracy_score(targets, predictions))
    assert wa(targets, predictions, 6) == pytest.approx(accuracy_score(targets, predictions))
    assert macro_f1(targets, predictions, 6) == pytest.approx(
        f1_score(targets, predictions, average="macro", zero_division=0)  # pyright: ignore
    )
    np.testing.assert_array_equal(
        confusion(targets, predictions, 6), confusion_matrix(targets, predictions, labels=range(6))
    )


def test_ua_and_wa_by_hand():
    targets, predictions = [0, 0, 0, 0, 2, 2], [0, 0, 0, 1, 2, 1]
    assert ua(targets, predictions, 3) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert wa(targets, predictions, 3) == pytest.approx(4 / 6)


def test_metrics_of_no_clips_are_errors():
    for metric in (ua, wa, macro_f1):
        with pytest.raises(InputError, match="no labelled clips"):
            metric([], [], 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_ece_equals_its_definition(seed: int, bins: int):
    rng = np.random.default_rng(seed)
    posteriors = rng.dirichlet(np.full(4, rng.choice([0.1, 1, 10])), size=40)
    posteriors[:4], posteriors[4:8] = np.eye(4), [0.5, 0.25, 0.25, 0]  # on bin edges
    targets = rng.integers(0, 4, 40)
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in pairwise(edges):
        rows = [i for i in range(40) if low < posteriors[i].max() <= high]
        if rows:
            accuracy = np.mean([posteriors[i].argmax() == targets[i] for i in rows])
            total += len(rows) / 40 * abs(accuracy - np.mean([posteriors[i].max() for i in rows]))
    assert ece(posteriors, targets, bins) == pytest.approx(total, abs=1e-12)


def test_nll():
    rng = np.random.default_rng(0)
    posteriors, targets = rng.dirichlet(np.ones(4), size=50), rng.integers(0, 4, 50)
    assert nll(posteriors, targets) == pytest.approx(log_loss(targets, posteriors, labels=range(4)))
    assert nll([[1, 0]], [1]) == pytest.approx(-np.log(1e-12))


def clips(rng: np.random.Generator, n_speakers: int, n_each: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return clips of speakers with different accuracies, 0.6 on average."""
    speakers = np.repeat([f"speaker {i}" for i in range(n_speakers)], n_each)
    skill = np.repeat(rng.beta(3, 2, n_speakers), n_each)
    targets = rng.integers(0, 3, len(speakers))
    wrong = (targets + rng.integers(1, 3, len(targets))) % 3
    return targets, np.where(rng.random(len(targets)) < skill, targets, wrong), speakers


def speaker_interval(targets, predictions, speakers, metric, n=1000, level=0.95) -> tuple[float, float]:
    """Return the interval of a metric over three labels, by resampling speakers."""
    draws = drawn(targets, predictions, list(speakers), 3, metric, n=n)
    return interval(draws, len(set(speakers)), level)


def paired_interval(targets, a, b, speakers, metric, n=1000) -> tuple[float, float]:
    """Return the interval of the metric of a minus that of b, on the same resampled speakers."""
    of_a, of_b = (drawn(targets, given, list(speakers), 3, metric, n=n) for given in (a, b))
    return interval(of_a - of_b, len(set(speakers)))


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_equals_drawing_speakers_one_by_one(metric):
    targets, predictions, speakers = clips(np.random.default_rng(0), 25, 8)
    names, rng = np.unique(speakers), np.random.default_rng(1)
    one_by_one = []
    for _ in range(1000):
        rows = np.concatenate([np.flatnonzero(speakers == name) for name in rng.choice(names, len(names))])
        one_by_one.append(METRICS[metric](targets[rows], predictions[rows], 3))
    found = speaker_interval(targets, predictions, speakers, metric, n=4000, level=0.9)
    edge = norm.cdf(t.ppf(0.05, len(names) - 1) * np.sqrt(len(names) / (len(names) - 1)))
    assert found == pytest.approx(np.quantile(one_by_one, [edge, 1 - edge]), abs=0.012)
    assert found == speaker_interval(targets, predictions, speakers, metric, n=4000, level=0.9)


def test_bootstrap_covers_the_true_accuracy():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        targets, predictions, speakers = clips(rng, 40, 20)
        low, high = speaker_interval(targets, predictions, speakers, "wa", n=300)
        covered += low <= 0.6 <= high
    # 190 expected, standard deviation 3; resampling clips instead covers 138
    assert 178 <= covered <= 199


def test_paired_bootstrap():
    rng = np.random.default_rng(0)
    targets, a, speakers = clips(rng, 30, 10)
    b = np.where(rng.random(len(a)) < 0.2, (targets + 1) % 3, a)  # never better than a
    low, high = paired_interval(targets, a, b, speakers, "ua")
    assert 0 < low < ua(targets, a, 3) - ua(targets, b, 3) < high
    assert paired_interval(targets, b, a, speakers, "ua") == pytest.approx((-high, -low))
    assert paired_interval(targets, a, a, speakers, "ua") == (0, 0)
    alone = np.diff(speaker_interval(targets, a, speakers, "ua"))[0]
    assert high - low < alone  # pairing cancels variation common to both


def test_bootstrap_needs_two_speakers():
    with pytest.raises(InputError, match="two speakers"):
        drawn([0, 1], [0, 1], ["a", "a"], 2, "ua")


def test_bootstrap_covers_the_true_accuracy_with_few_speakers():
    """Nominal 95 %: plain percentiles reach 89 % with ten speakers, expanded ones 94 %."""
    rng = np.random.default_rng(0)
    for n_speakers, floor in ((10, 180), (20, 182)):
        covered = 0
        for _ in range(200):
            targets, predictions, speakers = clips(rng, n_speakers, 20)
            low, high = speaker_interval(targets, predictions, speakers, "wa", n=500)
            covered += low <= 0.6 <= high
        assert floor <= covered <= 199


def test_paired_differences_cover_the_true_one():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        targets, a, speakers = clips(rng, 12, 20)
        spoilt = rng.random(len(a)) < 0.1
        b = np.where(spoilt, (targets + 1) % 3, a)  # a is 0.1 * 0.6 better
        low, high = paired_interval(targets, a, b, speakers, "wa", n=300)
        covered += low <= 0.06 <= high
    assert 178 <= covered <= 199


def test_recalls():
    targets, predictions = [0, 0, 1, 3], [0, 1, 1, 3]
    np.testing.assert_equal(recalls(targets, predictions, 4), [0.5, 1, np.nan, 1])


def test_reliability_adds_up_to_ece():
    rng = np.random.default_rng(0)
    posteriors, targets = rng.dirichlet(np.ones(4), size=300), rng.integers(0, 4, 300)
    clips, confidence, accuracy = reliability(posteriors, targets)
    some = clips > 0
    gaps = clips[some] * np.abs(confidence[some] - accuracy[some])
    assert gaps.sum() / 300 == pytest.approx(ece(posteriors, targets))
    assert np.isnan(confidence[~some]).all()
    assert clips.sum() == 300


@pytest.mark.parametrize("metric", [*METRICS, "ece"])
def test_draws_average_over_groups(metric):
    """Brute force: resample speakers, compute the metric of each group, average."""
    rng = np.random.default_rng(0)
    targets, _, speakers = clips(rng, 6, 8)
    posteriors = rng.dirichlet(np.ones(3), size=len(targets))
    predictions = posteriors.argmax(axis=1)
    groups = np.repeat([0, 0, 1, 1, 2, 2], 8)
    given = posteriors if metric == "ece" else predictions
    found = drawn(targets, given, list(speakers), 3, metric, groups=groups, n=25, seed=3)
    names, clusters = np.unique(speakers, return_inverse=True)
    counts = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=25)
    for draw, count in zip(found, counts, strict=True):
        rows = np.repeat(np.arange(len(targets)), count[clusters])
        values = []
        for group in np.unique(groups[rows]):
            of_group = rows[groups[rows] == group]
            if metric == "ece":
                values.append(ece(posteriors[of_group], targets[of_group]))
            else:
                values.append(METRICS[metric](targets[of_group], predictions[of_group], 3))
        assert draw == pytest.approx(np.mean(values))
    assert len(names) == 6
