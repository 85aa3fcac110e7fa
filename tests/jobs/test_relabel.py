"""A single run, relabelling in place and labelling into another folder give the same tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.jobs.jobs_support import scored, speech, tables, write_wav
from zsfuse_ray import Labeller

LABELS = "angry,happy,sad,neutral,bored"
# Every option that affects labels but not encoding, with a value that is not its default.
OPTIONS = {
    "labels": "calm,angry,sad",
    "templates": "a {} voice|{}",
    "words": 2,
    "text_repeats": "1,3",
    "separator": ", ",
    "ensemble": "probability",
    "temperature": 2.5,
    "specialist_temperature": 0.5,
    "fused_temperature": 2.0,
    "fusion": "loglinear",
    "weight": 0.2,
    "unsure_below": 0.25,
    "prior": "uniform",
    "prior_strength": 0.5,
}
NEEDS = {"prior_strength": {"prior": "uniform"}}  # what an option has no effect without


@pytest.fixture(scope="module")
def encoded(run_job, tmp_path_factory) -> tuple[Path, Path]:
    """An archive with a broken file, and its output."""
    folder = tmp_path_factory.mktemp("relabel")
    for n in range(4):
        write_wav(folder / "in" / f"{n}.wav", speech(20 + 7 * n, seed=n))
    (folder / "in" / "broken.mp3").write_bytes(b"no audio")
    scored(run_job("score", *arguments(folder), "--output", folder / "out"))
    return folder, folder / "out"


def arguments(folder: Path) -> list:
    usual = ["--preset", "untrained", "--max-reject-rate", "1", "--item-s", "20", "--audio-repeats", "1,2"]
    return ["--input", folder / "in", *usual]


def given(**options) -> list:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]


def equal(first: dict[str, pd.DataFrame], second: dict[str, pd.DataFrame]) -> None:
    for name, expected in first.items():
        found = second[name]
        assert list(found) == list(expected), name
        for column in expected:
            if expected[column].dtype.kind == "f":
                np.testing.assert_allclose(found[column], expected[column], atol=1e-6, err_msg=column)
            else:
                assert found[column].equals(expected[column]), column


def test_every_option_of_labelling_is_tested_here():
    from zsfuse_ray.config.label import LABELLING

    # the untrained specialist has no head for normalised vectors; test_texts.py has transcripts
    assert set(OPTIONS) | {"normalise", "transcripts"} == set(LABELLING)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_gives_the_same_labels_in_place_and_elsewhere(encoded, run_job, tmp_path, name):
    folder, out = encoded
    files = {path: path.stat().st_mtime_ns for path in (out / "encoded").rglob("*") if path.is_file()}
    changed = given(**NEEDS.get(name, {}), **{name: OPTIONS[name]})
    before = tables(out)
    again = run_job("score", *arguments(folder), "--output", out, *changed)
    scored(again)
    assert "is already encoded: labelling without audio" in again.stderr
    assert files == {path: path.stat().st_mtime_ns for path in (out / "encoded").rglob("*") if path.is_file()}
    in_place = tables(out)
    assert not before["segments"].equals(in_place["segments"])
    usual = ["--audio-repeats", "1,2", "--max-reject-rate", "1", "--preset", "untrained"]
    elsewhere = ["--embeddings", out, "--output", tmp_path / "out", *usual]
    scored(run_job("score", *elsewhere, *changed))
    equal(in_place, tables(tmp_path / "out"))


def test_a_single_run_gives_the_same_tables(encoded, run_job, tmp_path):
    """With all options changed at once; each of them alone changes the tables, as tested above."""
    folder, out = encoded
    scored(run_job("score", *arguments(folder), "--output", tmp_path / "out", *given(**OPTIONS)))
    scored(run_job("score", *arguments(folder), "--output", out, *given(**OPTIONS)))
    single = tables(tmp_path / "out")
    assert len(single["segments"]) > 8
    equal(single, tables(out))
    runs = [json.loads((place / "run.json").read_text()) for place in (tmp_path / "out", out)]
    assert runs[0]["counts"] == runs[1]["counts"]
    assert runs[0]["effective_repetition"] == runs[1]["effective_repetition"]
    assert runs[1]["time"]["audio_hours_this_time"] == 0


def test_a_single_model_and_tuned_options_need_no_audio(encoded, run_job, tmp_path):
    folder, out = encoded
    tuned = {"alm": "none", "specialist": "classifier:untrained", "labels": ["angry", "sad"], "weight": 0.0}
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(tuned))
    again = run_job("score", *arguments(folder), "--output", out, "--tuned", tmp_path / "tuned.yaml")
    scored(again)
    assert "without audio" in again.stderr
    segments = tables(out)["segments"]
    assert "alm_angry" not in segments
    np.testing.assert_allclose(segments.p_angry, segments.specialist_angry)


def test_deleted_embeddings_are_encoded_again_when_needed(encoded, run_job, tmp_path):
    folder, kept = encoded
    out = ["--output", tmp_path / "out"]
    scored(run_job("score", *arguments(folder), *out, "--keep-encoded", "no"))
    assert not list((tmp_path / "out" / "encoded").rglob("*.parquet"))
    scored(run_job("score", *arguments(folder), "--output", kept))
    equal(tables(kept), tables(tmp_path / "out"))
    assert "nothing to do" in run_job("score", *arguments(folder), *out, "--keep-encoded", "no").stderr
    other = run_job("score", *arguments(folder), *out, "--labels", LABELS)
    scored(other)
    assert "without audio" not in other.stderr
    assert list((tmp_path / "out" / "encoded").rglob("*.parquet"))
    scored(run_job("score", *arguments(folder), "--output", kept, "--labels", LABELS))
    equal(tables(kept), tables(tmp_path / "out"))


def test_a_labeller_matches_a_run(encoded, run_job):
    """To 1e-3: another batch can change the last bits and so the rounding to float16."""
    folder, out = encoded
    scored(run_job("score", *arguments(folder), "--output", out, "--labels", LABELS))
    segments = tables(out)["segments"].sort_values(["recording_uri", "start_s"])
    options = {"labels": LABELS.split(","), "audio_repeats": (1, 2), "item_s": 20.0}
    labeller = Labeller.from_preset("untrained", **options)
    rows = labeller.label_files(sorted((folder / "in").glob("*.wav")))
    assert len(rows) == len(segments) > 8
    files, starts, ends = (rows.index.get_level_values(name) for name in rows.index.names)
    assert list(files) == segments.recording_uri.tolist()
    np.testing.assert_allclose(starts.total_seconds(), segments.start_s, atol=1e-6)
    np.testing.assert_allclose(ends.total_seconds(), segments.end_s, atol=1e-6)
    for column in rows:
        if column == "label":
            assert rows.label.tolist() == segments.label.tolist()
        else:
            np.testing.assert_allclose(rows[column], segments[column], atol=1e-3, err_msg=column)
