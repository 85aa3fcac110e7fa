"""Tuning on real files with Ray: score and evaluate accept its output."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tensorboardX.proto import event_pb2

from tests.jobs.jobs_support import ROOT, lines, scored, speech, wait_for, write_wav

LABELS = ("angry", "happy", "sad")
SPEAKERS = ("a", "b", "c", "d", "e", "f")
OPTIONS = (
    *("--templates", "{}|i hear {}|speaker is {}", "--audio-repeats", "1,2", "--text-repeats", "1,2"),
    *(
        "--preset",
        "untrained",
        "--folds",
        "3",
        "--resamples",
        "200",
        "--temperatures",
        "1",
        "--ensembles",
        "embedding,probability",
    ),
)


@pytest.fixture(scope="module")
def tuned(run_job, tmp_path_factory):
    """Six speakers' clips and a broken one, tuned: the folder of clips, the output, the finished job."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = []
    for s, speaker in enumerate(SPEAKERS):
        for n, label in enumerate(LABELS * 2):
            path = write_wav(folder / f"{speaker}{n}.wav", speech(0.8 + 0.1 * s, seed=n % 3))
            rows.append({"uri": path.name, "emotion": label, "speaker": speaker})
    (folder / "broken.wav").write_bytes(b"RIFF....WAVE")
    rows.append({"uri": "broken.wav", "emotion": "sad", "speaker": "e"})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    out = folder / "out"
    done = run_job("tune", "--input", folder / "clips.csv", "--output", out, *OPTIONS)
    return folder, out, done


def test_it_prints_the_best_configuration(tuned):
    _, out, done = tuned
    printed = scored(done)
    assert "| fusion, best configuration |" in printed
    assert str(out / "tuned.yaml") in printed
    assert any("1 of 37 clips could not be read" in line for line in lines(done.stderr))
    assert len(list((out / "figures").iterdir())) == 6


def test_tensorboard_has_the_score_of_every_block(tuned):
    _, out, _ = tuned
    result = json.loads((out / "tune.json").read_text())
    files = list((out / "ray_tune").rglob("events.out.tfevents*"))
    scores = [scalars(file)["ray/tune/score"] for file in files]
    assert len(scores) == result["search"]["blocks"]
    assert max(scores) == pytest.approx(result["systems"]["best"]["in_sample"])


def scalars(file: Path) -> dict[str, float]:
    """Last value of each tag in an event file: records of length, checksum, event, checksum."""
    content, found, place = file.read_bytes(), {}, 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
        found |= {one.tag: one.simple_value for one in event.summary.value}
        place += 12 + length + 4
    return found


def test_every_configuration_is_in_the_tables(tuned):
    _, out, _ = tuned
    result = json.loads((out / "tune.json").read_text())
    files = sorted((out / "trials").iterdir())
    assert result["search"]["failed"] == {}
    assert len(files) == result["search"]["blocks"]
    assert result["search"]["configurations"] == len(files) * 7 * 101
    subsets = pd.read_parquet(files[0])
    assert sorted(subsets.subset) == list(range(1, 8))
    everything = pd.concat(map(pd.read_parquet, files))
    assert everything.score.max() == pytest.approx(result["systems"]["best"]["in_sample"])


def test_score_and_evaluate_use_the_tuned_options(tuned, run_job, tmp_path):
    folder, out, _ = tuned
    options = yaml.safe_load((out / "tuned.yaml").read_text())
    tuning = ("--tuned", out / "tuned.yaml")
    done = run_job("score", "--input", folder, "--output", tmp_path / "scored", "--vad", "none", *tuning)
    assert done.returncode in (0, 1), done.stderr  # 1: a broken file and a table are among the clips
    config = json.loads((tmp_path / "scored" / "run.json").read_text())["config"]
    assert {key: config[key] for key in options} == options
    done = run_job(
        *("evaluate", "--input", folder / "clips.csv", "--output", tmp_path / "evaluated", "--folds", "3"),
        *("--resamples", "200", *tuning),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    assert found["config"]["templates"] == options["templates"]
    (corpus,) = found["corpora"].values()
    given = corpus["choices"][0]["zs_fuse_given"]
    assert (given["w"], given["rule"]) == (options["weight"], options["fusion"])
    assert ([given["a"]], [given["b"]]) == (options["audio_repeats"], options["text_repeats"])
    assert corpus["systems"]["zs_fuse_given"]["ua"]["value"] > 0
    assert "| ZS-Fuse as given |" in done.stdout


def test_a_finished_tuning_is_not_repeated(tuned, run_job):
    folder, out, first = tuned
    before = (out / "tune.json").read_bytes()
    again = run_job("tune", "--input", folder / "clips.csv", "--output", out, *OPTIONS)
    assert "is complete; nothing to do" in again.stderr
    assert scored(again) == scored(first)
    assert (out / "tune.json").read_bytes() == before


def test_missing_blocks_are_computed_again(tuned, run_job):
    """The result and the tables of some blocks are deleted, but Tune has recorded those blocks as done."""
    folder, out, _ = tuned
    before = json.loads((out / "tune.json").read_text())
    (out / "tune.json").unlink()
    gone = sorted((out / "best").iterdir())[:2]
    kept = {path: path.stat().st_mtime_ns for path in sorted((out / "best").iterdir())[2:]}
    for path in gone:
        path.unlink()
    again = run_job("tune", "--input", folder / "clips.csv", "--output", out, *OPTIONS)
    assert again.returncode == 0, again.stderr
    assert all(path.exists() for path in gone)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert not any("encoded" in line for line in lines(again.stderr))
    after = json.loads((out / "tune.json").read_text())
    for name, system in before["systems"].items():
        np.testing.assert_allclose(after["systems"][name]["nested"], system["nested"])


def test_resumes_after_sigkill_with_the_same_results(tuned, run_job, cluster, tmp_path):
    folder, out, _ = tuned
    again = tmp_path / "again"
    arguments = ("--input", folder / "clips.csv", "--output", again, *OPTIONS)
    command = [sys.executable, str(ROOT / "jobs" / "tune.py"), *map(str, arguments)]
    job = subprocess.Popen(command, env=cluster, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(again.glob("best/*.parquet"))) > 1, 200, "two blocks")
    job.kill()
    job.wait()
    assert not (again / "tune.json").exists()
    done = run_job("tune", *arguments)
    assert done.returncode == 0, done.stderr
    assert not any("encoded" in line for line in lines(done.stderr))
    expected, found = (json.loads((f / "tune.json").read_text()) for f in (out, again))
    assert found["tuned"] == expected["tuned"]
    for name, system in expected["systems"].items():
        assert found["systems"][name]["ua"] == system["ua"]


def test_another_tuning_in_the_same_folder_is_refused(tuned, run_job):
    folder, out, _ = tuned
    again = run_job("tune", "--input", folder / "clips.csv", "--output", out, *OPTIONS, "--choose", "best")
    assert again.returncode == 2
    assert "another run's results (choose one_se → best)" in again.stderr
