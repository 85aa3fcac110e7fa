"""``zsfuse train`` as a user runs it: two workers, kills, outputs and bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.jobs.jobs_support import ROOT, lines, run_process, scored, tables, wait_for, write_wav
from tests.training.training_support import EMOTIONS, start, tones
from zsfuse_ray import cli, errors
from zsfuse_ray.models.families.classifier import Classifier

EPOCHS = 16


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 36 train and 12 dev clips, one of them unreadable; pitch determines the emotion."""
    folder = tmp_path_factory.mktemp("voices")
    rows = []
    for i, samples in enumerate(tones(48)):
        write_wav(folder / f"{i}.wav", samples / 32768)
        split = "train" if i < 36 else "dev"
        rows.append(
            {"uri": f"{i}.wav", "emotion": EMOTIONS[i % 3], "speaker": f"{split}{i % 4}", "split": split}
        )
    (folder / "5.wav").write_bytes(b"no audio")
    return manifest(folder / "clips.csv", rows)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("init"), "wavlm")


def manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def arguments(clips: Path, init: Path, out: Path) -> list[object]:
    options = {
        "train": clips, "init": init, "output": out, "epochs": EPOCHS, "batch-s": 8, "crop-s": 1, "lr": 3e-3,
        "ema": 0.8, "speed": 0.05, "noise": 0.3, "mixup": 0.2, "workers": 2,
    }  # fmt: skip
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def figures(out: Path) -> list[dict[str, float]]:
    epochs = json.loads((out / "metrics.json").read_text())["epochs"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in epochs]


@pytest.fixture(scope="module")
def trained(
    cluster: dict[str, str], voices: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess]:
    """An uninterrupted training with two workers."""
    out = tmp_path_factory.mktemp("trained") / "model"
    done = run_process("train", *arguments(voices, tiny, out), env=cluster)
    scored(done)
    return out, done


@pytest.fixture
def training(cluster: dict[str, str]) -> Iterator[Callable[..., tuple[subprocess.Popen, Path]]]:
    """``training(arguments)`` starts a training in the background, killed at the end of the test."""
    running = []

    def begin(*words: object, log: Path) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "jobs" / "train.py"), *map(str, words)]
        with log.open("w") as file:
            running.append(subprocess.Popen(command, env=cluster, stdout=file, stderr=file))
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()


def workers_of(token: str) -> list[int]:
    """Ids of the training processes of the Ray with this token, not of another one on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            is_worker = entry.name.isdigit() and b"RayTrainWorker" in (entry / "cmdline").read_bytes()
            if is_worker and token.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # ended in the meantime
    return found


def test_two_workers_train_a_model_that_score_can_use(
    trained: tuple[Path, subprocess.CompletedProcess], voices: Path, run_job: Callable, tmp_path: Path
) -> None:
    out, done = trained
    epochs = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == EPOCHS
    assert "1 of 48 clips could not be read" in done.stderr
    assert "35 train" in done.stderr
    rejects = pd.read_csv(out / "rejects.csv")
    assert rejects.uri.item().endswith("5.wav")
    best = json.loads((out / "training.json").read_text())["best"]
    assert len(figures(out)) == EPOCHS  # also those after the best
    assert best["dev_ua"] > 0.6  # chance is a third
    assert best["dev_ua"] == max(row["dev_ua"] for row in figures(out))
    card = (out / "README.md").read_text()
    assert f"dev_ua {best['dev_ua']:.1%}" in card
    assert f"--epochs {EPOCHS}" in card
    assert list((out / "tensorboard").glob("events*"))

    # the saved model reproduces the dev figures of the training
    model = Classifier(str(out))
    hits = {name: [] for name in EMOTIONS}
    for i, samples in enumerate(tones(48)):
        if i >= 36:
            logits = model.classify([torch.from_numpy(samples / 32768).float()])[0]
            hits[EMOTIONS[i % 3]].append(model.labels[int(logits.argmax())] == EMOTIONS[i % 3])
    assert np.mean([np.mean(hit) for hit in hits.values()]) == pytest.approx(best["dev_ua"], abs=0.1)

    audio = tmp_path / "audio"
    for i in range(36, 40):
        write_wav(audio / f"{i}.wav", tones(48)[i] / 32768)
    words = ["--specialist", out, "--alm", "none", "--vad", "none", "--labels", ",".join(EMOTIONS)]
    scored(run_job("score", "--input", audio, "--output", tmp_path / "labels", *words))
    assert len(tables(tmp_path / "labels")["segments"]) == 4


def test_a_finished_training_is_not_repeated(
    trained: tuple[Path, subprocess.CompletedProcess], voices: Path, tiny: Path, run_job: Callable
) -> None:
    out, _ = trained
    before = (out / "model.safetensors").stat().st_mtime_ns
    again = run_job("train", *arguments(voices, tiny, out))
    assert (again.returncode, (out / "model.safetensors").stat().st_mtime_ns) == (0, before)
    assert "nothing to do" in again.stderr
    other = run_job("train", *arguments(voices, tiny, out), "--epochs", 3)
    assert other.returncode == 2
    assert f"epochs {EPOCHS} → 3" in lines(other.stderr)[-1]


def test_resumes_after_worker_and_driver_are_killed(
    cluster: dict[str, str],
    trained: tuple[Path, subprocess.CompletedProcess],
    voices: Path,
    tiny: Path,
    training: Callable,
    tmp_path: Path,
) -> None:
    out, log = tmp_path / "model", tmp_path / "log"
    running = training(*arguments(voices, tiny, out), log=log)
    wait_for(lambda: f"epoch 2/{EPOCHS}" in log.read_text(), 240, "the second epoch")
    workers = workers_of(cluster["RAY_AUTH_TOKEN"])
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    wait_for(lambda: "resumes from epoch" in log.read_text(), 240, "new workers")
    wait_for(lambda: f"epoch 5/{EPOCHS}" in log.read_text(), 240, "the fifth epoch")
    running.kill()
    running.wait()
    assert not (out / "model.safetensors").exists()
    again = run_process("train", *arguments(voices, tiny, out), env=cluster)
    scored(again)
    assert "resumes from epoch" in again.stderr
    uninterrupted = trained[0]
    assert figures(out) == figures(uninterrupted)
    assert (out / "model.safetensors").read_bytes() == (uninterrupted / "model.safetensors").read_bytes()


@pytest.mark.long
def test_real_speech_is_learned_well_above_chance(shared: Path, run_job: Callable, tmp_path: Path) -> None:
    """From the shipped encoder with a shipped preset; three of EmoDB's ten speakers are held out."""
    clips = pd.read_csv(shared / "corpora" / "emodb" / "metadata.csv", dtype=str)
    speakers = sorted(clips.speaker.unique())
    rows = [
        {"corpus": "emodb", "speaker": s, "split": "dev" if i > 6 else "train"}
        for i, s in enumerate(speakers)
    ]
    done = run_job(
        "train", "--corpus", f"emodb:{shared / 'corpora' / 'emodb'}",
        "--splits", manifest(tmp_path / "splits.csv", rows), "--preset", "tiny",
        "--init", "mini", "--output", tmp_path / "model", "--workers", 2,
    )  # fmt: skip
    scored(done)
    best = json.loads((tmp_path / "model" / "training.json").read_text())["best"]
    assert best["dev_ua"] > 0.6  # chance is 14.3 %


def refused(*words: object) -> str:
    """The job's error for a command that it must refuse before it starts Ray."""
    with pytest.raises(errors.InputError) as caught:
        cli.train([str(word) for word in words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


ROW = {"uri": "a.wav", "emotion": "happy", "speaker": "1", "split": "train"}
CALM_DEV = {"uri": "b.wav", "emotion": "calm", "speaker": "2", "split": "dev"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"uri": "a.wav", "emotions": "happy"}], "no label column emotion"),
        ([ROW, ROW | {"uri": "b.wav"}], 'labelled "happy"; at least two'),
        ([ROW, ROW | {"uri": "b.wav", "emotion": "sad", "split": "dev"}], "speaker 1 of"),
        ([ROW | {"split": "test"}, ROW | {"emotion": "sad", "split": "test"}], "no clip is in split train"),
        (
            [ROW, ROW | {"emotion": "sad"}, CALM_DEV],
            "dev clips have labels without training clips: calm",
        ),
    ],
)  # fmt: skip
def test_wrong_clips_are_refused(
    tiny: Path, tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    out = tmp_path / "model"
    assert message in refused("--train", manifest(tmp_path / "c.csv", rows), "--init", tiny, "--output", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--ephocs", 3], "--epochs"),
        (["--epochs", 0], "--epochs 0"),
        (["--preset", "tinny"], "tiny"),
        (["--init", "/no/such/folder"], "/no/such/folder"),
        (["--workers", "3,2"], "MIN,MAX"),
        (["--batch-s", 1, "--crop-s", 4], "--batch-s"),
        (["--labels", "happy,sed"], "sed"),
        (["--corpus", "emodb:x"], "not both"),
    ],
)
def test_wrong_options_are_refused(
    voices: Path, tiny: Path, tmp_path: Path, given: list[object], message: str
) -> None:
    whole = ["--train", voices, "--init", tiny, "--output", tmp_path / "model", *given]
    assert message in refused(*whole)


def test_init_of_another_family_is_refused(voices: Path, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    message = refused("--train", voices, "--init", tmp_path / "bert", "--output", tmp_path / "model")
    assert "no audio classifier of model_type 'bert'" in message


def test_an_output_folder_with_other_content_is_refused(voices: Path, tiny: Path) -> None:
    assert "exists, but no training wrote it" in refused("--train", voices, "--init", tiny, "--output", tiny)


def test_more_workers_than_the_cluster_has_cpus_are_refused(
    voices: Path, tiny: Path, run_job: Callable, tmp_path: Path
) -> None:
    words = ["--init", tiny, "--output", tmp_path / "model", "--workers", 40, "--batch-s", 500]
    done = run_job("train", "--train", voices, *words)
    assert done.returncode == 2
    assert "40 workers need 40 logical CPUs" in lines(done.stderr)[-1]
    assert not (tmp_path / "model").exists()
