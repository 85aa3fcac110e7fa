"""The segments to check: a random sample without preference, and the hardest ones."""

import numpy as np
import pandas as pd
import pytest

from zsfuse_ray.reporting.page.checks import DISAGREE, RANDOM, UNCERTAIN, Checks, disagreement

LABELS = ("happy", "sad")


def rows(n: int, seed: int = 0, uri: str = "a") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    start = np.arange(n) * 10.0
    table = {"recording_uri": uri, "start_s": start, "end_s": start + rng.choice([0.5, 5.0], n)}
    for kind in ("specialist", "alm"):
        table[f"{kind}_happy"] = rng.random(n)
        table[f"{kind}_sad"] = 1 - table[f"{kind}_happy"]
    return pd.DataFrame(table | {"confidence": rng.random(n), "label": "happy"})


def test_the_hardest_are_those_of_a_sort_of_all() -> None:
    batches = [rows(50, seed, str(seed)) for seed in range(4)]
    checks = Checks(LABELS, 0, 5)
    for batch in batches:
        checks.add(batch)
    every = pd.concat(batches)
    long = every[every["end_s"] - every["start_s"] >= 1]
    found = pd.DataFrame(checks.found())
    uncertain = found[found["why"] == UNCERTAIN]
    assert uncertain["confidence"].tolist() == long["confidence"].nsmallest(5).tolist()
    far = (long["specialist_happy"] - long["alm_happy"]).abs().nlargest(10)  # half the sum over two labels
    disagree = found[found["why"] == DISAGREE]
    distance = (disagree["specialist_happy"] - disagree["alm_happy"]).abs()
    assert set(distance) <= set(far)
    assert len(found.drop_duplicates(["recording_uri", "start_s"])) == len(found)


def test_every_segment_has_the_same_chance_of_being_sampled() -> None:
    counts = np.zeros(40)
    for seed in range(600):
        checks = Checks(LABELS, 10, 0, seed)
        checks.add(rows(30))
        checks.add(rows(10, uri="b").assign(start_s=np.arange(300, 400, 10.0)))
        for one in checks.found():
            assert one["why"] == RANDOM
            counts[int(one["start_s"] // 10)] += 1
    assert counts.sum() == 6000
    assert counts == pytest.approx(150, abs=5 * np.sqrt(150 * 0.75))  # five standard deviations


def test_disagreement_is_the_total_variation_distance() -> None:
    table = pd.DataFrame(
        {"specialist_a": [1.0, 0.5], "specialist_b": [0.0, np.nan], "alm_a": [0.0, 0.5], "alm_b": [1.0, 0.5]}
    )
    assert disagreement(table, ("a", "b")).tolist() == [1.0, 0.25]
    assert np.isnan(disagreement(table[["alm_a", "alm_b"]], ("a", "b"))).all()


def test_without_segments_there_is_nothing_to_check() -> None:
    assert Checks(LABELS, 3, 3).found() == []
