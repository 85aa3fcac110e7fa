"""One fold: a head is trained on its train clips only, and choices are made on clips it has not seen."""

from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.synthetic import LABELS, evidence
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import build
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.fold import FoldResult, record_of, run_fold, system_title
from zsfuse_ray.experiments.protocol import Round
from zsfuse_ray.method.metrics import ua

DATA = evidence(alm=2.0, n_each=16)
TEST = DATA.speakers >= "s08"
FOLD = Round(*(np.flatnonzero(rows) for rows in (~TEST, ~TEST, TEST)))
VECTORS = np.random.default_rng(5).normal(size=(len(DATA.targets), 12)) + 1.5 * np.eye(12)[DATA.targets]


def config(**options: object) -> EvaluateConfig:
    given = {"input": "clips.csv", "output": "out", "protocol": "loso", "audio_repeats": "1,2"}
    return build(EvaluateConfig, given | {"text_repeats": "1", **options})


def outcome(data: Evidence = DATA, r: Round = FOLD, seed: int = 0, **options: object) -> FoldResult:
    return run_fold(data, VECTORS, r, config(**options), seed)


@pytest.fixture(scope="module")
def usual() -> FoldResult:
    return outcome()


def test_a_refitted_head_does_not_use_the_specialist_s_logits(usual):
    blind = replace(
        DATA.specialists["specialist"], logits=np.zeros_like(DATA.specialists["specialist"].logits)
    )
    again = outcome(replace(DATA, specialists={"specialist": blind}))
    for name, posteriors in usual.posteriors.items():
        np.testing.assert_array_equal(posteriors, again.posteriors[name])
    kept = outcome(refit="none")
    at = DATA.calibrated(FOLD.dev).specialist
    assert at is not None
    np.testing.assert_allclose(kept.posteriors["specialist"], at.posterior[FOLD.test])


def test_labels_of_test_clips_do_not_matter(usual):
    wrong = DATA.targets.copy()
    wrong[FOLD.test] = (wrong[FOLD.test] + 1) % len(LABELS)
    again = outcome(replace(DATA, targets=wrong))
    for name, posteriors in usual.posteriors.items():
        np.testing.assert_array_equal(posteriors, again.posteriors[name])


def test_weights_are_chosen_on_left_out_posteriors():
    """Vectors without information, more values than clips: on its own clips the head would look perfect."""
    noise = np.random.default_rng(1).normal(size=(len(DATA.targets), 300))
    done = run_fold(DATA, noise, FOLD, config(), 0)
    assert done.choices["linear"]["w"] > 0.8
    alone, fused = (
        ua(DATA.targets[FOLD.test], done.posteriors[n].argmax(axis=1), 4) for n in ("specialist", "linear")
    )
    assert fused > alone + 0.2


def test_with_splits_weights_are_chosen_on_dev_clips():
    r = Round(FOLD.train[:64], FOLD.train[64:], FOLD.test)
    relabelled = DATA.targets.copy()
    relabelled[r.dev] = np.random.default_rng(0).permutation(relabelled[r.dev])
    head = [outcome(replace(DATA, targets=y), r).choices for y in (DATA.targets, relabelled)]
    assert head[0]["specialist"]["C"] == head[1]["specialist"]["C"]
    assert head[0]["specialist"]["temperature"] < head[1]["specialist"]["temperature"]


def test_every_pair_of_copies_is_reported_on_request(usual):
    done = outcome(each_copies=True)
    pairs = {name.partition("@")[2] for name in done.posteriors} - {""}
    assert pairs == {"1,1", "1,2", "2,1", "2,2"}
    np.testing.assert_array_equal(done.posteriors["alm_ensemble@1,1"], usual.posteriors["alm_ensemble"])
    assert {name.partition("@")[0] for name in done.posteriors if "@2,1" in name} == {
        "alm_ensemble", "linear", "loglinear", "stacked", "concat"
    }  # fmt: skip
    assert system_title("linear@2,1") == "fused, linear pool, a = 2, b = 1"


def test_its_record_has_the_metrics_of_its_predictions(usual):
    record = record_of(usual, DATA, FOLD)
    assert record["clips"] == {"train": 128, "dev": 128, "test": 64}
    for name, of in record["systems"].items():
        assert of["ua"] == ua(record["targets"], record["predictions"][name], len(LABELS))
    assert record["speakers"] == DATA.speakers[FOLD.test].tolist()


def test_without_an_alm_or_without_vectors():
    assert set(outcome(replace(DATA, alms={})).posteriors) == {"specialist"}
    done = run_fold(DATA, None, FOLD, config(refit="none"), 0)
    assert "stacked" in done.posteriors
    assert "concat" not in done.posteriors
