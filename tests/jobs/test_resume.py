"""Exactly once: a run killed half-way and run again ends with the tables of an undisturbed run."""

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
    """Recordings that make a dozen bundles, most of them of 20 s."""
    folder = tmp_path_factory.mktemp("archive")
    for n in range(6):
        write_wav(folder / f"{n}.wav", speech(45 + n, seed=n))
    (folder / "broken.mp3").write_bytes(b"no audio")
    return folder


def arguments(archive: Path, out: Path) -> list[str]:
    return ["--input", str(archive), "--output", str(out), "--item-s", "20", "--max-reject-rate", "1"]


# A job whose parts are short, so that there are several of them.
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
def undisturbed(cluster, archive, tmp_path_factory) -> tuple[Path, dict]:
    """Output of a run in several parts that nothing disturbed, and its tables."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    subprocess.run(command(archive, out), env=cluster, check=True, capture_output=True)
    assert len(list((out / "segments").glob("*.parquet"))) >= 3
    return out, tables(out)


def test_killed_and_run_again(undisturbed, cluster, archive, tmp_path):
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
    assert written.items() < after.items(), "what was written is kept, and it was not all"
    second = tables(killed)
    for name, table in undisturbed[1].items():
        assert table.equals(second[name]), name
    assert not second["segments"].duplicated("segment_id").any()


def test_a_labelling_that_was_killed_is_done_again(undisturbed, cluster, archive, tmp_path):
    out = shutil.copytree(undisturbed[0], tmp_path / "out")
    run = (out / "run.json").read_text()
    # as if killed while a part's tables were written: one is there, its counts and the others are not
    (out / "run.json").write_text(run.replace('"status": "complete"', '"status": "started"'))
    (out / "rejects" / "part-000000.parquet").unlink()
    next((out / "labelled").glob("part-000000.*.json")).unlink()
    again = subprocess.run(command(archive, out), env=cluster, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "without audio" in again.stderr
    after = tables(out)
    for name, table in undisturbed[1].items():
        assert table.equals(after[name]), name


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment(undisturbed, cluster, archive, tmp_path, seed):
    """SIGKILL once a run has written some of its files, up to three times; the tables are the same."""
    rng, out, n_files = random.Random(seed), tmp_path / "out", files_in(undisturbed[0])
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
    for name, table in undisturbed[1].items():
        assert table.equals(again[name]), (name, moments)


def test_items_of_20_and_60_seconds_give_the_same_segments(undisturbed, run_job, archive, tmp_path):
    scored(run_job("score", *arguments(archive, tmp_path / "out"), "--item-s", "60"))
    short, long = undisturbed[1]["segments"], tables(tmp_path / "out")["segments"]
    assert len(long) > 20
    same = 0
    for row in long.itertuples():
        near = short[short.recording_uri == row.recording_uri]
        same += ((near.start_s - row.start_s).abs().lt(0.05) & (near.end_s - row.end_s).abs().lt(0.05)).any()
    assert abs(len(short) - len(long)) <= 0.02 * len(long)
    assert same >= 0.98 * len(long)
