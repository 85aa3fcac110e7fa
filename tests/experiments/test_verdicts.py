"""The sentences that state whether fusion helps."""

import pytest

from zsfuse_ray.experiments.verdicts import of_evaluation, of_no_weight, of_tuning


def gain(value: float, low: float | None) -> dict:
    return {"value": value, "low": low, "high": None if low is None else 0.04}


@pytest.mark.parametrize(
    ("weight", "value", "low", "message"),
    [
        (0.0, 0.0, 0.0, "does not help: the weight chosen on dev is 0"),
        (0.3, -0.01, -0.03, "does not help here: -1.0 points"),
        (0.3, 0.02, -0.01, "may help: +2.0 points"),
        (0.3, 0.02, 0.01, "Fusion helps: +2.0 points"),
        (
            0.3,
            0.02,
            None,
            "may help: +2.0 points of UA against the specialist alone; there is no interval: a",
        ),
    ],
)
def test_verdict_of_an_evaluation(weight, value, low, message):
    assert message in of_evaluation(gain(value, low), [weight], 4 if low is None else 20)


def test_few_speakers_are_mentioned():
    assert "though 6 test speakers are few" in of_evaluation(gain(0.02, 0.01), [0.3], 6)
    assert "though 6 speakers are few" in of_tuning(gain(0.02, 0.01), 6)
    assert "contains 0, though 6 speakers are few" in of_tuning(gain(0.02, -0.01), 6)
    assert "few" not in of_evaluation(gain(0.02, 0.01), [0.3], 10) + of_tuning(gain(0.02, 0.01), 10)


@pytest.mark.parametrize(
    ("value", "low", "message"),
    [
        (
            -0.01,
            -0.03,
            "does not help: -1.0 points of UA (95 % interval -3.0 to +4.0) on speakers it was not chosen on",
        ),
        (0.0, None, "does not help: +0.0 points of UA on speakers it was not chosen on, so w = 0"),
        (0.02, -0.01, "may help: +2.0 points"),
        (
            0.02,
            None,
            "may help: +2.0 points of UA against the specialist alone; there is no interval: a boot",
        ),
        (0.02, 0.01, "Fusion helps: +2.0 points of UA (95 % interval +1.0 to +4.0)"),
    ],
)
def test_verdict_of_a_tuning(value, low, message):
    assert message in of_tuning(gain(value, low), 4 if low is None else 20)


def test_verdict_gives_the_reason_for_weight_0():
    assert "the best weight is 0" in of_no_weight(gain(0.02, None), None, "ua")
    message = of_no_weight(gain(0.02, None), 0.0123, "ua")
    assert "within one standard error of the best (0.012 of ua), so w = 0 is written" in message
    assert message.endswith("With --choose best: +2.0 points of UA.")
