"""A specialist that knows few of the labels is refused, or reported with the probability dropped."""

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.archive.encoded_folders import BOTH, DIM, THEIRS, Small, every_segment, output_of, small_archive
from tests.archive.test_elsewhere import config, refusal
from zsfuse_ray.archive.console import label_lines, print_result
from zsfuse_ray.archive.elsewhere import label_table
from zsfuse_ray.method.zeroshot import softmax

SEVEN = ("happy", "bored", "calm", "disgust", "fearful", "excited", "surprised")  # theirs: only joy
THREE = ("angry", "surprised", "sad")  # all but surprised


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return small_archive(tmp_path / "table")


def expected_share(small: Small, mapped: tuple[str, ...]) -> float:
    """The mean probability of their labels that are not mapped."""
    logits = np.stack([output_of(segment, "specialist") for _, segment in every_segment(small.rows)])
    outside = [i for i, name in enumerate(THEIRS) if name not in mapped]
    return float(softmax(logits)[:, outside].sum(axis=1).mean())


def test_one_known_label_of_seven_is_refused_without_an_alm(small: Small) -> None:
    small.encode(BOTH)
    message = refusal(config(small, alm="none", labels=SEVEN))
    assert "covers only happy of the labels happy, bored, calm" in message
    assert "its own are sad, neutral, anger, joy" in message
    assert "add an ALM with --alm" in message


def test_with_an_alm_one_known_label_is_a_warning(small: Small, monkeypatch, caplog) -> None:
    from zsfuse_ray.archive import elsewhere
    from zsfuse_ray.archive.describe import Loaded, Prompts

    rng = np.random.default_rng(0)
    bank = rng.standard_normal((1, 2, len(SEVEN), DIM))
    prompts = Prompts((bank / np.linalg.norm(bank, axis=-1, keepdims=True)).astype(np.float32), 5.0, {"1": 0})
    monkeypatch.setattr(elsewhere, "look_at_models", lambda specs, known, *_: Loaded(known, prompts))
    small.encode(BOTH)
    with caplog.at_level(logging.WARNING):
        result = label_table(config(small, labels=SEVEN), "")
        print_result(result, 1.0)
    assert "covers only happy of the labels" in caplog.text
    assert "so it has no influence" in caplog.text
    share = result.record["counts"]["specialist_outside"]
    assert share == pytest.approx(expected_share(small, ("joy",)), abs=1e-3)
    assert (
        f"the specialist gave {share:.1%} of its probability to labels outside the label set" in caplog.text
    )
    assert "(sad, neutral, anger)" in caplog.text


def test_the_share_dropped_is_recorded_and_reported(small: Small, caplog, capsys) -> None:
    small.encode(BOTH)
    with caplog.at_level(logging.WARNING):
        result = label_table(config(small, alm="none", labels=THREE), "")
        print_result(result, 1.0)
    share = result.record["counts"]["specialist_outside"]
    assert share == pytest.approx(expected_share(small, ("sad", "anger")), abs=1e-3)
    assert (
        f"gave {share:.1%} of its probability to labels outside the label set (neutral, joy)" in caplog.text
    )
    assert f"outside the label set: {share:.0%} of the specialist's probability" in capsys.readouterr().out


def test_a_label_set_of_all_its_labels_drops_nothing(small: Small, caplog) -> None:
    small.encode(BOTH)
    with caplog.at_level(logging.WARNING):
        result = label_table(config(small, alm="none", labels=("joy", "sad", "neutral", "angry")), "")
        print_result(result, 1.0)
    assert "specialist_outside" not in result.record["counts"]
    assert "outside the label set" not in caplog.text


def test_a_small_share_is_not_shown() -> None:
    for share, is_shown in ((0.004, False), (0.4, True)):
        (line,) = label_lines({"label_shares": {"sad": 1.0}, "specialist_outside": share})
        assert ("outside the label set: 40%" in line) == is_shown
