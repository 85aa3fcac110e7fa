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
from zsfuse_ray.errors import InputError

RATE = 16_000
TURN_S = 6.0


@pytest.fixture(scope="module")
def labellers() -> dict[str, Labeller]:
    return {how: Labeller.from_preset("mini", channels=how) for how in ("mix", "split")}


def synthetic() -> np.ndarray:
    """Two voices that take turns and overlap at times, (2, samples) int16."""
    voices = [speech(30, seed=seed) for seed in (1, 2)]
    at = np.arange(len(voices[0])) / RATE % (2 * TURN_S)
    speaks = (at < TURN_S + 1, at > TURN_S - 1)
    return np.stack(
        [(np.clip(v * h, -1, 1) * 32767).astype(np.int16) for v, h in zip(voices, speaks, strict=True)]
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


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[float, float, str]]]:
    """A recording in which two voices take turns without pauses, and its turns, also as RTTM beside it."""
    folder = tmp_path_factory.mktemp("conversation")
    whose = ["ann", "bob"] * 3
    voices = [speech(TURN_S, seed=n % 2) for n in range(len(whose))]
    sound = np.concatenate(voices)
    soundfile.write(folder / "talk.wav", (np.clip(sound, -1, 1) * 32767).astype(np.int16), RATE)
    turns = [(n * TURN_S, (n + 1) * TURN_S, who) for n, who in enumerate(whose)]
    lines = (f"SPEAKER talk 1 {s} {e - s} <NA> <NA> {who} <NA> <NA>\n" for s, e, who in turns)
    (folder / "talk.rttm").write_text("".join(lines))
    return folder / "talk.wav", turns


def test_segments_are_cut_at_turns(conversation: tuple) -> None:
    file, turns = conversation
    labeller = Labeller.from_preset("mini", speakers=str(file.with_suffix(".rttm")))
    assert labeller.config.normalise == "speaker"
    rows = labeller.label(file)
    assert set(rows["speaker"]) == {"ann", "bob"}
    starts, ends = (
        pd.TimedeltaIndex(rows.index.get_level_values(name)).total_seconds() for name in ("start", "end")
    )
    for start, end, speaker, overlap in zip(starts, ends, rows["speaker"], rows["overlap"], strict=True):
        own = sum(max(0.0, min(end, e) - max(start, s)) for s, e, who in turns if who == speaker)
        assert own / (end - start) == pytest.approx(1 - overlap, abs=1e-3)
        assert own / (end - start) > 0.9


def test_turns_of_no_recording_are_refused(conversation: tuple, tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text("SPEAKER else 1 0 1 <NA> <NA> x <NA> <NA>\n")
    labeller = Labeller.from_preset("mini", speakers=str(tmp_path / "a.rttm"))
    with pytest.raises(InputError, match=r"no recording has one of its names \(else"):
        labeller.label(conversation[0])
    with pytest.raises(InputError, match="--speakers and --channels split exclude each other"):
        Labeller.from_preset("mini", speakers="a.rttm", channels="split")


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


def test_segments_say_what_a_transcript_says(conversation: tuple, tmp_path: Path) -> None:
    file, turns = conversation
    lines = [
        f"{n}\n00:00:{int(s) + 1:02},000 --> 00:00:{int(e) - 1:02},000\nturn {n}\n"
        for n, (s, e, _) in enumerate(turns)
    ]
    (tmp_path / "talk.srt").write_text("\n".join(lines))
    options = {"speakers": str(file.with_suffix(".rttm")), "transcripts": str(tmp_path)}
    rows = Labeller.from_preset("mini", **options).label(file)
    told = " ".join(rows["text"]).split()
    assert told == " ".join(f"turn {n}" for n in range(len(turns))).split()
    for text, speaker in zip(rows["text"], rows["speaker"], strict=True):
        assert all(turns[int(n)][2] == speaker for n in text.replace("turn", "").split())
