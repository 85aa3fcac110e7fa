"""Exactly once: a run that is killed and run again gives the tables of an uninterrupted run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.jobs.jobs_support import scored, speech, tables, wait_for, write_wav


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Recordings for a dozen bundles, most of them of 20 s."""
    folder = tmp_path_factory.mktemp("archive")
    for n in range(6):
        write_wav(folder / f"{n}.wav", speech(45 + n, seed=n))
    (folder / "broken.mp3").write_bytes(b"no audio")
    return folder


def arguments(archive: Path, out: Path) -> list[str]:
    return ["--input", str(archive), "--output", str(out), "--item-s", "20", "--max-reject-rate", "1"]


# A job with short parts, so that there are several.
SHORT_PARTS = """
import sys
from zsfuse_ray.archive import bundles
from zsfuse_ray.cli import run
bundles.PART_S = 100.0
run(["score", *sys.argv[1:]])
"""


def files_in(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def command(archive: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", SHORT_PARTS, *arguments(archive, out)]


@pytest.fixture(scope="module")
def uninterrupted(cluster, archive, tmp_path_factory) -> tuple[Path, dict]:
    """Output of an uninterrupted run in several parts, and its tables."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    subprocess.run(command(archive, out), env=cluster, check=True, capture_output=True)
    assert len(list((out / "segments").glob("*.parquet"))) >= 3
    return out, tables(out)


def test_resumes_after_sigkill(uninterrupted, cluster, archive, tmp_path):
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(archive, killed),
        env=cluster,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def some_written() -> bool:
        assert process.poll() is None, "the job ended before it could be killed"
        return len(list((killed / "encoded" / "checkpoint-000").glob("*.parquet"))) >= 3

    wait_for(some_written, 120, "the first bundles")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    written = {path: path.stat().st_mtime_ns for path in (killed / "encoded" / "000").rglob("*.parquet")}
    assert not (killed / "segments").exists()
    done = subprocess.run(command(archive, killed), env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = {path: path.stat().st_mtime_ns for path in (killed / "encoded" / "000").rglob("*.parquet")}
    assert written.items() < after.items(), "written files are kept, and they were not all"
    second = tables(killed)
    for name, table in uninterrupted[1].items():
        assert table.equals(second[name]), name
    assert not second["segments"].duplicated("segment_id").any()


def test_killed_labelling_resumes(uninterrupted, cluster, archive, tmp_path):
    out = shutil.copytree(uninterrupted[0], tmp_path / "out")
    run = (out / "run.json").read_text()
    # as if killed while a part's tables were written: its rejects and counts are missing
    (out / "run.json").write_text(run.replace('"status": "complete"', '"status": "started"'))
    (out / "rejects" / "part-000000.parquet").unlink()
    next((out / "labelled").glob("part-000000.*.json")).unlink()
    again = subprocess.run(command(archive, out), env=cluster, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "without audio" in again.stderr
    after = tables(out)
    for name, table in uninterrupted[1].items():
        assert table.equals(after[name]), name


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_resumes_after_sigkill_at_any_time(uninterrupted, cluster, archive, tmp_path, seed):
    """Up to three kills, each after a random number of written files, do not change the tables."""
    rng, out, n_files = random.Random(seed), tmp_path / "out", files_in(uninterrupted[0])
    moments = sorted(rng.randint(1, n_files) for _ in range(rng.randint(1, 3)))
    for moment in moments:
        process = subprocess.Popen(
            command(archive, out),
            env=cluster,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and files_in(out) < moment:
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command(archive, out), env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = tables(out)
    for name, table in uninterrupted[1].items():
        assert table.equals(again[name]), (name, moments)


def test_items_of_20_and_60_seconds_give_the_same_segments(uninterrupted, run_job, archive, tmp_path):
    scored(run_job("score", *arguments(archive, tmp_path / "out"), "--item-s", "60"))
    short, long = uninterrupted[1]["segments"], tables(tmp_path / "out")["segments"]
    assert len(long) > 20
    same = 0
    for row in long.itertuples():
        near = short[short.recording_uri == row.recording_uri]
        same += ((near.start_s - row.start_s).abs().lt(0.05) & (near.end_s - row.end_s).abs().lt(0.05)).any()
    assert abs(len(short) - len(long)) <= 0.02 * len(long)
    assert same >= 0.98 * len(long)
