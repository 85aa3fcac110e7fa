"""Input, plan, checkpoint and tables in an object store, and its errors."""

import json
import os
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
import s3fs

from tests.jobs.jobs_support import lines, run_process, scored, speech, write_wav
from tests.training.training_support import EMOTIONS, start, tones
from zsfuse_ray.audio.files import list_files
from zsfuse_ray.audio.sources import open_audio
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import LOCK, Output
from zsfuse_ray.runs.lock import locked

ODD = "a [1]*#b%20c?é;::名"
TABLES = ("segments", "rejects")


@pytest.fixture(scope="module")
def store(s3, tmp_path_factory):
    """A bucket with recordings, and the environment that a job needs to access it."""
    files = s3fs.S3FileSystem(
        key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
    )
    folder = tmp_path_factory.mktemp("audio")
    for n in range(3):
        name = f"talk {n} ü.wav"
        files.put(str(write_wav(folder / name, speech(12, seed=n))), f"archive/in/{name}")
    files.pipe("archive/in/broken.mp3", b"no audio")
    environment = {
        k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
    }
    return files, {**environment, **s3}


def test_an_archive_in_an_object_store(store):
    """Input and output have names that could be taken for globs, encodings, queries and fragments."""
    files, environment = store
    names = {f"archive/{ODD}/talk {n} {ODD}.wav": f"archive/in/talk {n} ü.wav" for n in range(3)}
    for name, source in names.items():
        files.pipe(name, files.cat_file(source))
    files.pipe(f"archive/{ODD}/broken.mp3", b"no audio")
    out = f"archive/{ODD} out"
    command = [
        "score",
        "--input",
        f"s3://archive/{ODD}",
        "--output",
        f"s3://{out}",
        "--max-reject-rate",
        "0.5",
    ]
    printed = scored(run_process(*command, env=environment))
    found = {name: pq.read_table(f"{out}/{name}", filesystem=files).to_pylist() for name in TABLES}
    assert {row["recording_uri"] for row in found["segments"]} == {f"s3://{name}" for name in names}
    assert [row["recording_uri"] for row in found["rejects"]] == [f"s3://archive/{ODD}/broken.mp3"]
    before = files.find(out, detail=True)
    again = run_process(*command, env=environment)
    assert scored(again) == printed
    assert "nothing to do" in again.stderr
    after = files.find(out, detail=True)
    assert {name: entry["ETag"] for name, entry in before.items()} == {n: e["ETag"] for n, e in after.items()}
    written = b"".join(
        files.cat_file(name) for name, entry in before.items() if entry["size"]
    )  # no folder marks
    for secret in (environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_ACCESS_KEY_ID"]):
        assert secret.encode() not in written
        assert secret not in again.stdout + again.stderr


def test_object_names_are_taken_as_they_are(store, monkeypatch):
    files, environment = store
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, environment[name])
    s3fs.S3FileSystem.clear_instance_cache()  # it keeps the credentials of its first use, here perhaps none
    names = ["a[1].wav", "b 2.wav", "c#3.wav", "d%20é.wav", "é%41?x=1.wav", "f::g.wav", "h*.wav"]
    for name in names:
        files.pipe(f"archive/odd [x]/{name}", name.encode())
    assert [row["uri"] for row in list_files("s3://archive/odd [x]")] == [
        f"s3://archive/odd [x]/{name}" for name in sorted(names)
    ]
    for name in names:
        uri = f"s3://archive/odd [x]/{name}"
        assert [row["uri"] for row in list_files(uri)] == [uri]
        with open_audio(uri) as file:
            assert file.read() == name.encode()
        out = Output.open(f"s3://archive/out [x]/{name}")
        out.write_bytes("x/y", b"1")
        assert files.cat_file(f"archive/out [x]/{name}/x/y") == b"1"
        assert out.files("x") == [out.path("x/y")]
        out.delete("x")
    assert [row["uri"] for row in list_files("s3://archive/odd*/c*.wav")] == ["s3://archive/odd [x]/c#3.wav"]


def test_one_run_at_a_time_writes_to_a_prefix(store, s3, monkeypatch):
    files, _ = store
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    out = Output.open("s3://archive/locked")
    with locked(out):
        (name,) = (path for path in files.find("archive/locked") if LOCK in path)
        with pytest.raises(InputError, match=r"another run .* is writing there"), locked(out):
            pass
        owner = json.loads(files.cat(name)) | {"pid": 2**22 + 1}  # of a process that has ended
    files.pipe(f"archive/locked/{LOCK}-0-dead", json.dumps(owner).encode())
    with locked(out):
        pass
    files.invalidate_cache()
    assert not [path for path in files.find("archive/locked") if LOCK in path]


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (["--input", "s3://nobucket/in", "--output", "{tmp}/out"], {}, "s3://nobucket/in"),
        (
            ["--input", "s3://archive/nothing", "--output", "{tmp}/out"],
            {},
            "s3://archive/nothing: nothing there",
        ),
        (["--input", "demo", "--output", "s3://nobucket/out"], {}, "there is no bucket nobucket"),
        (
            ["--input", "s3://archive/in", "--output", "{tmp}/out"],
            {"AWS_SECRET_ACCESS_KEY": "wrongvalue"},
            "s3://archive/in",
        ),
        (
            ["--input", "demo", "--output", "s3://archive/o"],
            {"AWS_SECRET_ACCESS_KEY": "wrongvalue"},
            "s3://archive/o",
        ),
    ],
)
def test_errors_of_the_store_are_one_line(store, tmp_path, arguments, change, message):
    _, environment = store
    started = time.monotonic()
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    done = run_process("score", *filled, env={**environment, **change})
    assert done.returncode == 2, done.stderr
    (line,) = lines(done.stderr)
    assert message in line
    assert "wrongvalue" not in line
    assert environment["AWS_SECRET_ACCESS_KEY"] not in line
    assert time.monotonic() - started < 60
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_model_in_the_store_is_trained_and_used(store, s3, tmp_path):
    files, environment = store
    environment = environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    rows = []
    for i, samples in enumerate(tones(36)):
        write_wav(tmp_path / f"{i}.wav", samples / 32768)
        files.put(str(tmp_path / f"{i}.wav"), f"archive/voices/{i}.wav")
        split = "train" if i < 24 else "dev"
        emotion, speaker = EMOTIONS[i % 3], f"{split}{i % 4}"
        rows.append(
            {"uri": f"s3://archive/voices/{i}.wav", "emotion": emotion, "speaker": speaker, "split": split}
        )
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    files.put(str(tmp_path / "clips.csv"), "archive/clips.csv")
    command = ["train", "--train", "s3://archive/clips.csv", "--init", start(tmp_path / "init", "wavlm")]
    command += ["--output", "s3://archive/model", "--batch-s", "8", "--crop-s", "1", "--lr", "3e-3"]
    printed = scored(run_process(*command, "--epochs", "2", env=environment))
    assert "--specialist s3://archive/model" in printed
    names = {name.removeprefix("archive/model/").split("/")[0] for name in files.find("archive/model")}
    assert names >= {
        "config.json",
        "model.safetensors",
        "README.md",
        "training.json",
        "tensorboard",
        "training",
    }
    again = run_process(*command, "--epochs", "2", env=environment)
    assert scored(again) == printed
    assert "nothing to do" in again.stderr
    other = run_process(*command, "--epochs", "3", env=environment)
    assert other.returncode == 2
    assert "s3://archive/model holds another run's results (epochs 2 → 3)" in lines(other.stderr)[-1]

    command = ["score", "--input", "s3://archive/clips.csv", "--specialist", "s3://archive/model"]
    command += ["--alm", "none", "--vad", "none", "--labels", ",".join(EMOTIONS)]
    scored(run_process(*command, "--output", tmp_path / "labels", env=environment))
    segments = pd.read_parquet(tmp_path / "labels" / "segments")
    assert len(segments) == 36
    run = json.loads((tmp_path / "labels" / "run.json").read_text())
    assert run["config"]["specialist"] == "s3://archive/model"
    written = b"".join(
        files.cat(name) for name, entry in files.find("archive/model", detail=True).items() if entry["size"]
    )
    assert s3["AWS_SECRET_ACCESS_KEY"].encode() not in written
