"""Calls with a speaker per channel: each channel has the labels that it has alone."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.jobs.jobs_support import speech
from zsfuse_ray import Labeller
from zsfuse_ray.audio.decode import decode

RATE = 16_000
TURN_S = 6.0


@pytest.fixture(scope="module")
def labellers() -> dict[str, Labeller]:
    return {how: Labeller.from_preset("mini", channels=how) for how in ("mix", "split")}


def synthetic() -> np.ndarray:
    """Two voices that take turns and overlap at times, (2, samples) int16."""
    voices = [speech(30, seed=seed) for seed in (1, 2)]
    at = np.arange(len(voices[0])) / RATE % (2 * TURN_S)
    heard = (at < TURN_S + 1, at > TURN_S - 1)
    return np.stack(
        [(np.clip(v * h, -1, 1) * 32767).astype(np.int16) for v, h in zip(voices, heard, strict=True)]
    )


def from_corpus(folder: Path) -> np.ndarray:
    """Two of EmoDB's speakers, one after the other and one per channel, (2, samples) int16."""
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    channels: list[list[np.ndarray]] = [[], []]
    for pair in zip(
        *([row for row in rows if row["speaker"] == who][:6] for who in ("03", "09")), strict=True
    ):
        for n, row in enumerate(pair):
            clip = decode(str(folder / row["file"])).samples
            gap = np.zeros(RATE // 2, np.int16)
            channels[n] += [clip, gap]
            channels[1 - n] += [np.zeros_like(clip), gap]
    return np.stack([np.concatenate(parts) for parts in channels])


@pytest.mark.parametrize("of", ["synthetic", "corpus"])
def test_each_channel_of_a_call_is_labelled_as_if_alone(
    labellers: dict[str, Labeller], of: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    real = of == "corpus"
    call = from_corpus(request.getfixturevalue("shared") / "corpora/emodb") if real else synthetic()
    soundfile.write(tmp_path / "call.wav", call.T, RATE)
    rows = labellers["split"].label(tmp_path / "call.wav").droplevel("file")
    assert set(rows["channel"]) == {0, 1}
    for n, own in enumerate(call):
        soundfile.write(tmp_path / f"{n}.wav", own, RATE)
        alone = labellers["mix"].label(tmp_path / f"{n}.wav").droplevel("file")
        assert len(alone) > 3
        assert "channel" not in alone
        found = rows.loc[rows["channel"] == n, alone.columns]
        # batches of other segments move the last bits of a model's outputs
        pd.testing.assert_frame_equal(found, alone, atol=1e-3)


def test_mono_stored_as_stereo_is_labelled_once(labellers: dict[str, Labeller]) -> None:
    sound = synthetic()[0]
    alone = labellers["mix"].label(sound, RATE)
    with pytest.warns(UserWarning, match="its channels have the same sound in places"):
        twice = labellers["split"].label(np.stack([sound, sound]), RATE)
    assert set(twice["channel"]) == {0}
    pd.testing.assert_frame_equal(twice.drop(columns="channel"), alone, atol=1e-3)


def test_a_silent_channel_has_no_segments(labellers: dict[str, Labeller]) -> None:
    sound = synthetic()[0]
    rows = labellers["split"].label(np.stack([np.zeros_like(sound), sound]), RATE)
    assert len(rows)
    assert set(rows["channel"]) == {1}
