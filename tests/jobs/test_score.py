"""Scoring real files on Ray: the tables, and repeated runs."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.jobs.jobs_support import run_process, scored, speech, tables, write_wav
from zsfuse_ray.config.options import defaults
from zsfuse_ray.config.score import OPERATIONAL, ScoreConfig
from zsfuse_ray.method.fusion import fuse

LABELS = ("angry", "happy", "sad", "neutral", "bored")  # the untrained specialist does not have the last
OPTIONS = (
    "--preset",
    "untrained",
    "--labels",
    ",".join(LABELS),
    "--weight",
    "0.3",
    "--audio-repeats",
    "1,2,3",
)


@pytest.fixture(scope="module")
def demo(cluster, tmp_path_factory, run_job) -> tuple[Path, str]:
    """The demo archive labelled once, and what the job printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = run_job("score", "--input", "demo", "--output", out, *OPTIONS)
    return out, scored(done)


def test_the_demo_is_labelled(demo):
    out, printed = demo
    found = tables(out)
    segments = found["segments"]
    assert len(found["recordings"]) == 4
    assert not len(found["rejects"])
    assert len(segments) >= 12
    assert segments.segment_id.is_unique
    assert not segments.isna().any().any()
    length = segments.end_s - segments.start_s
    assert length.between(0.5 - 1e-6, 10 + 1e-6).all()
    assert f"{len(segments):,} segments" in printed
    assert str(out) in printed
    summed = segments.assign(s=length).groupby("recording_uri").s.sum()
    assert np.allclose(found["recordings"].set_index("recording_uri").speech_s, summed)


def test_posteriors_are_the_fusion_of_both_models(demo):
    segments = tables(demo[0])["segments"]
    p = segments[[f"p_{label}" for label in LABELS]].to_numpy()
    alm = segments[[f"alm_{label}" for label in LABELS]].to_numpy()
    known = segments[[f"specialist_{label}" for label in LABELS[:4]]].to_numpy()
    assert "specialist_bored" not in segments
    specialist = np.c_[known, np.zeros(len(known))]
    inside = np.array([True] * 4 + [False])
    assert np.allclose(p, fuse(specialist, alm, 0.3, "linear", inside), atol=1e-6)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (segments.label == np.array(LABELS)[p.argmax(axis=1)]).all()
    assert np.allclose(segments.confidence, p.max(axis=1))


def test_run_json_records_options_models_and_counts(demo):
    run = json.loads((demo[0] / "run.json").read_text())
    assert run["status"] == "complete"
    assert run["config"]["weight"] == 0.3
    assert run["versions"]["ray"]
    assert run["models"]["alm"]["model"] == "clap:untrained"
    segments = tables(demo[0])["segments"]
    assert run["counts"]["segments"] == len(segments)
    assert {a: sum(effects.values()) for a, effects in run["effective_repetition"].items()} == dict.fromkeys(
        "123", len(segments)
    )
    assert run["counts"]["encoder_inputs"] < 3 * len(
        segments
    )  # some repetitions give the model the same input


def test_the_same_command_again_changes_nothing(demo, cluster):
    out, _ = demo
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    # no cluster is at this address: with nothing to do the job does not connect
    nowhere = {**cluster, "RAY_ADDRESS": "127.0.0.1:1"}
    again = run_process("score", "--input", "demo", "--output", out, *OPTIONS, env=nowhere)
    assert "nothing to do" in again.stderr
    assert scored(again) == demo[1]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--item-s", "60"], "item_s 300.0 → 60.0"),
        (["--vad", "none"], "vad silero → none"),
        (["--crop", "seeded"], "crop head → seeded"),
        (["--input", "{root}"], "holds another run's results (input demo → "),
    ],
)
def test_other_encoding_options_are_refused(demo, run_job, arguments, message):
    same = ["--input", "demo", "--output", demo[0], "--preset", "untrained", "--labels", ",".join(LABELS)]
    wave = write_wav(demo[0].parent / "other" / "a.wav", speech(2)).parent
    done = run_job("score", *same, *(argument.format(root=wave) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert "--overwrite" in done.stderr


def test_overwrite_keeps_other_files(run_job, tmp_path):
    write_wav(tmp_path / "in" / "a.wav", speech(4))
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    common = [
        "--input",
        tmp_path / "in",
        "--output",
        out,
        "--vad",
        "none",
        "--alm",
        "none",
        "--labels",
        "angry,happy",
    ]
    scored(run_job("score", *common))
    segments = out / "segments" / "part-000000.parquet"
    before = segments.stat().st_mtime_ns
    scored(run_job("score", *common, "--max-segment-s", "5", "--overwrite"))
    assert segments.stat().st_mtime_ns != before
    assert len(tables(out)["recordings"]) == 1
    assert (out / "notes.txt").read_text() == "mine"


def test_slices_and_columns_of_a_manifest(run_job, tmp_path):
    audio = speech(50)
    write_wav(tmp_path / "talk 1.wav", audio)
    rows = [
        {"uri": "talk 1.wav", "start_s": 0.0, "end_s": 20.0, "id": "001", "speaker": "anna", "label": "x"},
        {"uri": "talk 1.wav", "start_s": 23.5, "end_s": 41.25, "id": "002", "speaker": "ben", "label": "y"},
        {"uri": "talk 1.wav", "start_s": None, "end_s": None, "id": "003", "speaker": "all", "label": "z"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    scored(run_job("score", "--input", tmp_path / "list.csv", "--output", tmp_path / "out", "--item-s", "20"))
    found = tables(tmp_path / "out")
    segments = found["segments"]
    assert set(found["recordings"].id) == {"001", "002", "003"}
    assert set(segments.manifest_label) == {"x", "y", "z"}
    for name, start, end in (("anna", 0, 20), ("ben", 23.5, 41.25), ("all", 0, 50)):
        of = segments[segments.speaker == name]
        assert len(of)
        assert of.start_s.min() >= start
        assert of.end_s.max() <= end + 1e-6


def test_clips_without_voice_activity_detection(run_job, tmp_path):
    for n in range(70):  # more than fit in one bundle
        write_wav(tmp_path / "in" / f"{n:03}.wav", speech(1.5, seed=n) if n else np.zeros(1600))
    write_wav(tmp_path / "in" / "long.wav", speech(25, seed=5))
    scored(run_job("score", "--input", tmp_path / "in", "--output", tmp_path / "out", "--vad", "none"))
    segments = tables(tmp_path / "out")["segments"]
    clips = segments[~segments.recording_uri.str.endswith("long.wav")]
    assert len(clips) == clips.recording_uri.nunique() == 69
    (silent,) = tables(tmp_path / "out")["rejects"].itertuples()  # digital silence gets no label
    assert (silent.recording_uri[-7:], silent.reason) == ("000.wav", "no_speech")
    long = segments[segments.recording_uri.str.endswith("long.wav")]
    assert (long.start_s // 10).tolist() == [0, 1, 2]  # one window each, without its silent edges
    assert (long.end_s - 10 * (long.start_s // 10)).between(4, 10).all()


def test_separate_pools_give_the_same_rows(run_job, tmp_path):
    common = ["--input", "demo", "--output"]
    scored(run_job("score", *common, tmp_path / "one"))
    scored(run_job("score", *common, tmp_path / "two", "--pools", "separate"))
    assert tables(tmp_path / "one")["segments"].equals(tables(tmp_path / "two")["segments"])
    # the defaults shown by --help are those that such a run records
    shown = {name: value for name, value in defaults(ScoreConfig).items() if name not in OPERATIONAL}
    assert json.loads((tmp_path / "one" / "run.json").read_text())["config"] == shown | {"input": "demo"}


def test_four_repeats_of_three_seconds_give_three_inputs(run_job, tmp_path):
    write_wav(tmp_path / "clip.wav", speech(3, rate=48_000), 48_000)
    common = ["--input", tmp_path / "clip.wav", "--vad", "none", "--audio-repeats", "1,2,3,4"]
    common += ["--preset", "untrained"]  # whose window is 10 s
    printed = scored(run_job("score", *common, "--output", tmp_path / "out"))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["counts"]["segments"] == 1
    assert run["counts"]["encoder_inputs"] == 3
    seen = {
        a: [effect for effect, n in effects.items() if n]
        for a, effects in run["effective_repetition"].items()
    }
    assert seen == {"1": ["same"], "2": ["fewer"], "3": ["same"], "4": ["cropped"]}
    assert "audio × 3: same input as one copy 100%" in printed


def test_plan_can_be_run_first(run_job, tmp_path):
    write_wav(tmp_path / "in" / "a.wav", speech(30))
    out = tmp_path / "out"
    printed = scored(run_job("plan", "--input", tmp_path / "in", "--output", out))
    assert "1 of 1 recordings (1 wav)" in printed
    assert "1 items" in printed
    assert "encoded/ will take up to " in printed
    plan = (out / "plan" / "plan.json").stat().st_mtime_ns
    measured = ("--measure", "--price", "0.5", "--audio-repeats", "1,2")
    printed = scored(run_job("plan", "--input", tmp_path / "in", "--output", out, *measured))
    (line,) = [line for line in printed.splitlines() if line.startswith("models: ")]
    assert re.search(
        r"about \S+ s of one CPU core per hour .* CPU core hours in total: about \S+ at 0.5", line
    )
    assert "with these models" in printed
    scored(run_job("score", "--input", tmp_path / "in", "--output", out))
    assert (out / "plan" / "plan.json").stat().st_mtime_ns == plan
    assert len(tables(out)["segments"])


def test_a_cluster_without_gpus_is_refused_early(run_job, tmp_path):
    done = run_job("score", "--input", "demo", "--output", tmp_path / "out", "--gpus-per-encoder", "1")
    assert done.returncode == 2
    assert "GPUs, the cluster has 0" in done.stderr
    assert not (tmp_path / "out" / "encoded").exists()
    measured = ("--measure", "--gpus-per-encoder", "1")
    done = run_job("plan", "--input", "demo", "--output", tmp_path / "planned", *measured)
    assert done.returncode == 2
    assert "GPUs, the cluster has 0" in done.stderr
    assert not (tmp_path / "planned").exists()
    scored(run_job("plan", "--input", "demo", "--output", tmp_path / "planned"))
    done = run_job("plan", "--input", "demo", "--output", tmp_path / "planned", "--overwrite", *measured)
    assert done.returncode == 2
    assert (tmp_path / "planned" / "plan" / "plan.json").exists()  # nothing was deleted
    scored(run_job("plan", "--input", "demo", "--output", tmp_path / "planned", "--overwrite"))
