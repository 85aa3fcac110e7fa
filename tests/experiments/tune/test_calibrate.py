"""The temperatures that a tuning writes, and its figures across left-out speakers."""

from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.synthetic import config, evidence, searched
from zsfuse_ray.experiments.evidence import Evidence, Text
from zsfuse_ray.experiments.settings import Setting, alm_posterior, fitted
from zsfuse_ray.experiments.tune.assess import assess
from zsfuse_ray.experiments.tune.calibrate import calibrate
from zsfuse_ray.experiments.tune.configurations import Configuration, distinct_settings
from zsfuse_ray.experiments.tune.written import written
from zsfuse_ray.method.calibration import fit_tempered, tempered
from zsfuse_ray.method.fusion import fuse
from zsfuse_ray.method.metrics import ece, nll
from zsfuse_ray.method.zeroshot import softmax


def of_all_clips(seed: int = 0) -> Evidence:
    """Over-confident models: their logits are three times too large."""
    e = evidence(seed, alm=2.0, specialist=1.0, n_each=40, audio_repeats=(1,), text_repeats=(1,))
    specialist = replace(e.specialists["specialist"], logits=3 * e.specialists["specialist"].logits)
    e = replace(e, specialists={"specialist": specialist})
    return e.calibrated(np.arange(len(e.targets)))


DATA = of_all_clips()
EVERY = np.arange(len(DATA.targets))
PLAIN = Setting(1, Text(1), "embedding", "linear", 1.0)
CHOSEN = Configuration(fitted(DATA, EVERY, PLAIN), 0b0011, 0.4)


def test_fused_temperature_is_fitted_on_all_clips():
    found, _ = calibrate(DATA, CHOSEN, refits=True)
    alm = alm_posterior(DATA, CHOSEN.setting, EVERY, [0, 1])
    known = DATA.specialists["specialist"]
    assert found == fit_tempered(fuse(known.posterior, alm, 0.4, "linear", known.inside), DATA.targets)
    assert found < 1  # a linear pool of calibrated posteriors is under-confident


def test_figures_equal_a_loop_over_speakers():
    _, record = calibrate(DATA, CHOSEN, refits=True)
    after = {name: np.empty((len(EVERY), 4)) for name in ("specialist", "alm", "fused")}
    logits, inside = DATA.specialists["specialist"].logits, np.ones(4, bool)
    for speaker in np.unique(DATA.speakers):
        own = np.flatnonzero(DATA.speakers == speaker)
        others = np.flatnonzero(DATA.speakers != speaker)
        t = fit_tempered(softmax(logits[others]), DATA.targets[others])
        setting = fitted(DATA, others, CHOSEN.setting)
        q, p = softmax(logits / t), alm_posterior(DATA, setting, EVERY, [0, 1])
        fused = fuse(q, p, 0.4, "linear", inside)
        after["specialist"][own], after["alm"][own] = q[own], p[own]
        after["fused"][own] = tempered(fused[own], fit_tempered(fused[others], DATA.targets[others]))
    assert record["left_out"] == "speaker"
    for name, system in record["systems"].items():
        assert system["after"]["nll"] == pytest.approx(nll(after[name], DATA.targets), rel=1e-3)
        assert system["after"]["ece"] == pytest.approx(ece(after[name], DATA.targets), abs=2e-3)
    before = record["systems"]["specialist"]["before"]
    assert before["nll"] == pytest.approx(nll(softmax(logits), DATA.targets))
    assert record["systems"]["specialist"]["after"]["ece"] < before["ece"] - 0.05


def test_labels_of_a_speaker_do_not_change_its_own_posteriors():
    """Permuting one speaker's labels changes nothing but its own part of the figures."""
    targets = DATA.targets.copy()
    own = np.flatnonzero(DATA.speakers == "s03")
    targets[own] = np.random.default_rng(0).permutation(targets[own])
    others = np.flatnonzero(DATA.speakers != "s03")
    again = replace(DATA, targets=targets).calibrated(others)
    same = DATA.calibrated(others)
    key = "specialist"
    assert again.specialists[key].temperature == same.specialists[key].temperature


def test_unknown_speakers_are_left_out_by_fold():
    unknown = replace(DATA, speakers=np.full(len(EVERY), ""))
    assert calibrate(unknown, CHOSEN, refits=True)[1]["left_out"] == "fold"


def test_without_a_specialist_only_the_alm_is_measured():
    alone = replace(CHOSEN, setting=replace(CHOSEN.setting, specialist=None), weight=1.0)
    temperature, record = calibrate(replace(DATA, specialists={}), alone, refits=True)
    assert temperature == 1
    assert list(record["systems"]) == ["alm"]


def test_without_temperatures_they_are_fitted_for_each_setting():
    settings = distinct_settings(DATA, config(temperatures=()))
    assert {one.ensemble for one in settings} == {"embedding", "logit"}
    for one in settings:
        assert one.temperature == fitted(DATA, EVERY, one).temperature
    assert {one.temperature for one in distinct_settings(DATA, config(temperatures=(1.0, 2.0)))} == {1, 2}


def test_all_temperatures_are_written():
    options = config(temperatures=())
    found = searched(DATA, options)
    result = written(DATA, found, options, assess(DATA, found, options))
    options = result["options"]
    assert options["specialist_temperature"] == DATA.specialists["specialist"].temperature > 2
    assert options["temperature"] in {one.temperature for one in found.settings}
    assert options["fused_temperature"] != 1
    assert options["normalise"] == "auto"
    assert set(result["calibration"]["systems"]) == {"specialist", "alm", "fused"}
