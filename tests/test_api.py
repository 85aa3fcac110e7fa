"""Labels in Python, without Ray; tests/jobs/test_relabel.py compares them with those of a run."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import zsfuse_ray
from tests.jobs.jobs_support import speech, write_wav
from zsfuse_ray import Labeller
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.errors import InputError

LABELS = ["angry", "happy", "sad", "neutral"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return Labeller.from_preset("mini", labels=LABELS)


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    return write_wav(tmp_path_factory.mktemp("talk") / "talk.wav", speech(20, seed=1))


def test_a_file_gives_one_row_per_segment(labeller: Labeller, talk: Path) -> None:
    rows = labeller.label(talk)
    assert len(rows) > 1
    assert rows.index.names == ["file", "start", "end"]
    assert set(rows.index.get_level_values("file")) == {str(talk)}
    start, end = rows.index.get_level_values("start"), rows.index.get_level_values("end")
    assert start.dtype.kind == end.dtype.kind == "m"
    assert (start < end).all()
    assert start.is_monotonic_increasing
    posteriors = rows[[f"p_{label}" for label in LABELS]]
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, atol=1e-6)
    assert (posteriors.idxmax(axis=1).str.removeprefix("p_") == rows.label).all()
    np.testing.assert_allclose(posteriors.max(axis=1), rows.confidence)


@pytest.mark.parametrize("form", ["float", "int16", "channels"])
def test_a_waveform_is_labelled_like_its_file(labeller: Labeller, talk: Path, form: str) -> None:
    samples = np.clip(speech(20, seed=1), -1, 1)
    whole = (samples * 32767).astype(np.int16)  # as write_wav does
    waveform = {"float": whole / 32767, "int16": whole, "channels": np.stack([whole, whole])}[form]
    rows, expected = labeller.label(waveform, 16_000), labeller.label(talk).droplevel("file")
    pd.testing.assert_frame_equal(rows, expected)


def test_silence_gives_no_rows(labeller: Labeller) -> None:
    rows = labeller.label(np.zeros(16_000), 16_000)
    assert len(rows) == 0
    assert "p_angry" in rows


def test_several_files_one_of_them_broken(labeller: Labeller, talk: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    with pytest.warns(UserWarning, match=r"not labelled: .*broken\.mp3"):
        rows = labeller.label_files([talk, tmp_path / "broken.mp3"])
    pd.testing.assert_frame_equal(rows, labeller.label(talk))
    with pytest.raises(DecodeError, match=r"broken\.mp3"):
        labeller.label(tmp_path / "broken.mp3")


def test_segments_with_values_that_are_not_finite_are_left_out(
    labeller: Labeller, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # else the statistics of the other segments change
    monkeypatch.setattr(labeller, "config", replace(labeller.config, normalise="none"))
    expected, values = labeller.label(talk), labeller._values

    def broken(encoded: list) -> tuple:
        embeddings, logits, vectors = values(encoded)
        logits[0, 1] = np.nan
        return embeddings, logits, vectors

    monkeypatch.setattr(labeller, "_values", broken)
    with pytest.warns(UserWarning, match="1 segments left out"):
        rows = labeller.label(talk)
    pd.testing.assert_frame_equal(rows, expected.iloc[1:])


def test_the_number_of_threads_is_unchanged(labeller: Labeller, talk: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        labeller.label(talk)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(100), None, "needs its sample_rate"),
        ("talk.wav", 16_000, "a file has its own"),
        (np.zeros((100, 2)), 16_000, r"not \(100, 2\)"),
        (np.zeros(100, int), 16_000, "not int64"),
    ],
)
def test_invalid_audio_is_refused(labeller: Labeller, audio, rate, message: str) -> None:
    with pytest.raises(InputError, match=message):
        labeller.label(audio, rate)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InputError, match="lables"):
        Labeller.from_preset("mini", lables=LABELS)
    with pytest.raises(InputError, match="no preset large"):
        Labeller.from_preset("large")
    with pytest.raises(InputError, match="unknown option input"):
        Labeller.from_preset("mini", input="demo")
    with pytest.raises(AttributeError, match="no attribute 'Labeler'"):
        _ = zsfuse_ray.Labeler


def test_a_specialist_of_one_known_label_is_refused() -> None:
    labels = ["sad", "proud", "ashamed", "jealous"]
    with pytest.raises(InputError, match="covers only sad of the labels sad, proud"):
        Labeller.from_preset("mini", labels=labels, alm="none")


def test_probability_outside_the_labels_is_a_warning(talk: Path) -> None:
    few = Labeller.from_preset("mini", labels=["sad", "disgust", "proud"], alm="none")
    with pytest.warns(
        UserWarning, match=r"talk\.wav: the specialist gave \d+\.\d% of its probability to labels"
    ):
        few.label(talk)


def test_ray_is_not_imported(talk: Path) -> None:
    code = (
        "import sys; from zsfuse_ray import Labeller\n"
        "rows = Labeller.from_preset('mini').label(sys.argv[1])\n"
        "assert len(rows) and not [name for name in sys.modules if name.split('.')[0] == 'ray']"
    )
    subprocess.run([sys.executable, "-c", code, talk], cwd=ROOT, check=True, timeout=120)
