import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from tests.experiments.synthetic import clips, evidence, split_round
from zsfuse_ray.experiments.figures import figures, mean_over_corpora
from zsfuse_ray.experiments.protocol import Protocol, protocol
from zsfuse_ray.experiments.systems import FUSED, SINGLE_MEAN, Outcome, run_round
from zsfuse_ray.method import metrics

COPIES = {"audio_repeats": (1, 2, 3), "text_repeats": (1, 4)}
DATA = evidence(alm=0.6, specialist=0.7, n_speakers=24, n_each=10, templates=5, **COPIES)
FACTS = {"splits": "", "averaging": "", "parts": {}, "left_out": 0, "speaker_overlap": "none"}
ONE = Protocol((split_round(DATA),), FACTS)
TESTED = [run_round(DATA, ONE.rounds[0], "embedding")]
TABLE, DRAWS = figures(DATA, ONE, TESTED, 500)


def reference(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    return {
        "ua": balanced_accuracy_score(targets, predictions),
        "wa": accuracy_score(targets, predictions),
        "macro_f1": f1_score(targets, predictions, average="macro"),
    }


def test_metrics_equal_scikit_learn():
    targets = DATA.targets[ONE.rounds[0].test]
    for name, system in TABLE["systems"].items():
        if name in ("chance", SINGLE_MEAN):
            continue
        predictions = TESTED[0].posteriors[name][0].argmax(axis=1)
        for metric, value in reference(targets, predictions).items():
            assert system[metric]["value"] == pytest.approx(value), (name, metric)
        assert system["confusion"] == confusion_matrix(targets, predictions, labels=range(4)).tolist()
        assert system["recall"] == pytest.approx(recall_score(targets, predictions, average=None))


def test_mean_over_prompts_is_the_mean_of_their_metrics():
    targets = DATA.targets[ONE.rounds[0].test]
    singles = [reference(targets, p.argmax(axis=1)) for p in TESTED[0].posteriors[SINGLE_MEAN]]
    for metric in singles[0]:
        expected = np.mean([single[metric] for single in singles])
        assert TABLE["systems"][SINGLE_MEAN][metric]["value"] == pytest.approx(expected)


def test_metrics_of_folds_are_averaged():
    table = clips(n_speakers=24, split=False)
    plan = protocol(table, "numbers", 3, None)
    tested = [run_round(DATA, r, "embedding") for r in plan.rounds]
    found, _ = figures(DATA, plan, tested, 200)
    folds = [
        reference(DATA.targets[r.test], done.posteriors[FUSED][0].argmax(axis=1))
        for r, done in zip(plan.rounds, tested, strict=True)
    ]
    for metric in folds[0]:
        expected = np.mean([fold[metric] for fold in folds])
        assert found["systems"][FUSED][metric]["value"] == pytest.approx(expected)
    assert found["clips"] == len(DATA.targets)
    assert found["protocol"]["test_speakers"] == 24
    assert len(found["choices"]) == 3


def test_intervals_contain_the_values_and_pairs_share_their_draws():
    for name, system in TABLE["systems"].items():
        if name != "chance":
            for metric in ("ua", "wa", "macro_f1", "ece"):
                assert system[metric]["low"] <= system[metric]["value"] + 0.05
                assert system[metric]["high"] >= system[metric]["value"] - 0.05
    gain = TABLE["differences"]["zs_fuse - specialist"]
    ua = {name: TABLE["systems"][name]["ua"]["value"] for name in ("zs_fuse", "specialist")}
    assert gain["value"] == pytest.approx(ua["zs_fuse"] - ua["specialist"])
    assert gain["low"] <= gain["value"] <= gain["high"]
    same = [replace_posteriors(TESTED[0], FUSED, TESTED[0].posteriors["specialist"])]
    alike, _ = figures(DATA, ONE, same, 200)
    assert alike["differences"]["zs_fuse - specialist"] == {"value": 0, "low": 0, "high": 0}


def replace_posteriors(tested: Outcome, name: str, posteriors: list) -> Outcome:
    return replace(tested, posteriors=tested.posteriors | {name: posteriors})


def test_chance_is_the_share_of_a_label():
    chance = TABLE["systems"]["chance"]
    rng = np.random.default_rng(0)
    targets = np.tile(DATA.targets[ONE.rounds[0].test], 2000)
    guessed = reference(targets, rng.integers(0, 4, len(targets)))
    for metric, value in guessed.items():
        assert chance[metric]["value"] == pytest.approx(value, abs=0.005)


def test_the_table_is_plain_json_without_nan():
    assert json.loads(json.dumps(TABLE, allow_nan=False)) == TABLE


def test_calibration_is_reported_before_and_after():
    targets = DATA.targets[ONE.rounds[0].test]
    for name in ("specialist", "alm_amplified", "zs_fuse"):
        both = TABLE["calibration"][name]
        for when, posteriors in (("before", TESTED[0].uncalibrated), ("after", TESTED[0].posteriors)):
            (one,) = posteriors[name]
            assert both[when]["ece"]["value"] == pytest.approx(metrics.ece(one, targets))
            assert both[when]["nll"] == pytest.approx(metrics.nll(one, targets))
            assert sum(both[when]["reliability"]["clips"]) == len(targets)
        assert both["after"]["ece"] == TABLE["systems"][name]["ece"]
        assert both["after"]["nll"] == TABLE["systems"][name]["nll"]
    assert set(TABLE["calibration"]) == {"specialist", "alm_amplified", "zs_fuse"}


def test_no_intervals_for_unknown_or_fewer_than_five_speakers():
    four = np.array([f"s{n % 4}" for n in range(len(DATA.targets))])
    for speakers in (np.full(len(DATA.targets), "a"), np.full(len(DATA.targets), ""), four):
        table, draws = figures(replace(DATA, speakers=speakers), ONE, TESTED, 100)
        assert table["systems"][FUSED]["ua"]["low"] is None
        assert table["differences"]["zs_fuse - specialist"]["low"] is None
        assert not draws
        assert table["protocol"]["no_interval"]
        mean = mean_over_corpora({"a": TABLE, "b": table}, {"a": DRAWS, "b": draws})
        assert mean["ua"][FUSED]["low"] is None
        assert mean["difference"]["low"] is None
        assert mean["no_interval"] == "none for b"
    assert TABLE["protocol"]["no_interval"] is None


def test_no_op_amplification_is_counted():
    alm = DATA.alms["alm"]
    twice = alm.audio[2].copy()
    twice[:60] = alm.audio[1][:60]
    other = replace(DATA, alms={"alm": replace(alm, audio=alm.audio | {2: twice})})
    table, _ = figures(other, ONE, TESTED, 100)
    assert table["amplification"]["same_input"] == [1.0, 60 / len(twice), 0.0]


def test_labels_outside_the_specialist_are_listed():
    specialist = DATA.specialists["specialist"]
    specialist = replace(specialist, mapping=specialist.mapping & [True, False, True, True])
    table, _ = figures(replace(DATA, specialists={"specialist": specialist}), ONE, TESTED, 100)
    assert table["unknown_to_specialist"] == ["happy"]
    assert TABLE["unknown_to_specialist"] == []


def test_mean_over_corpora_covers_only_common_systems():
    other = replace_posteriors(TESTED[0], FUSED, TESTED[0].posteriors["specialist"])
    table, draws = figures(DATA, ONE, [other], 500, seed=1)
    del table["systems"]["svm"], draws["svm"]
    mean = mean_over_corpora({"a": TABLE, "b": table}, {"a": DRAWS, "b": draws})
    assert set(mean["ua"]) == set(table["systems"])
    ua = mean["ua"][FUSED]
    both = [each["systems"][FUSED]["ua"]["value"] for each in (TABLE, table)]
    assert ua["value"] == pytest.approx(np.mean(both))
    assert ua["low"] < ua["value"] < ua["high"]
    gain = TABLE["differences"]["zs_fuse - specialist"]["value"]
    assert mean["difference"]["value"] == pytest.approx(gain / 2)
    assert mean["ua"]["chance"] == {"value": 0.25, "low": None, "high": None}
