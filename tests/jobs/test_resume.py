"""Exactly once: a run killed half-way and run again ends with the tables of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs_support import ROOT, scored, speech, tables, wait_for, write_wav


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


def test_killed_and_run_again(run_job, cluster, archive, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    scored(run_job("score", *arguments(archive, undisturbed)))
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / "score.py"), *arguments(archive, killed)],
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
    written = len(list((killed / "encoded" / "000").rglob("*.parquet")))
    assert not (killed / "segments").exists()
    again = run_job("score", *arguments(archive, killed))
    scored(again)
    assert len(list((killed / "encoded" / "000").rglob("*.parquet"))) > written, (
        "it was killed too late to show anything"
    )
    first, second = tables(undisturbed), tables(killed)
    for name in first:
        assert first[name].equals(second[name]), name
    assert not second["segments"].duplicated("segment_id").any()


def test_a_labelling_that_was_killed_is_done_again(run_job, archive, tmp_path):
    out = tmp_path / "out"
    scored(run_job("score", *arguments(archive, out)))
    before = tables(out)
    run = (out / "run.json").read_text()
    # as if killed while a part's tables were written: one is there, its counts and the others are not
    (out / "run.json").write_text(run.replace('"status": "complete"', '"status": "started"'))
    (out / "rejects" / "part-000000.parquet").unlink()
    next((out / "labelled").glob("part-000000.*.json")).unlink()
    again = run_job("score", *arguments(archive, out))
    scored(again)
    assert "without audio" in again.stderr
    after = tables(out)
    for name in before:
        assert before[name].equals(after[name]), name


# A job whose parts are short, so that there are several of them.
SHORT_PARTS = """
import sys
from zsfuse_ray.archive import bundles
from zsfuse_ray.errors import run_job
import runpy
bundles.PART_S = 100.0
run_job(runpy.run_path(sys.argv[1])["main"], sys.argv[2:])
"""


def files_in(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


@pytest.fixture(scope="module")
def undisturbed(run_job, cluster, archive, tmp_path_factory) -> tuple[dict, int]:
    """Tables of a run in several parts that nothing disturbed, and how many files it wrote."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    command = [sys.executable, "-c", SHORT_PARTS, str(ROOT / "jobs" / "score.py")]
    subprocess.run([*command, *arguments(archive, out)], env=cluster, check=True, capture_output=True)
    assert len(list((out / "segments").glob("*.parquet"))) >= 3
    return tables(out), files_in(out)


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))]
)
def test_killed_at_any_moment(undisturbed, cluster, archive, tmp_path, seed):
    """SIGKILL once a run has written some of its files, up to three times; the tables are the same."""
    expected, n_files = undisturbed
    rng, out = random.Random(seed), tmp_path / "out"
    command = [sys.executable, "-c", SHORT_PARTS, str(ROOT / "jobs" / "score.py"), *arguments(archive, out)]
    moments = sorted(rng.randint(1, n_files) for _ in range(rng.randint(1, 3)))
    for moment in moments:
        process = subprocess.Popen(
            command,
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
    done = subprocess.run(command, env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = tables(out)
    for name, table in expected.items():
        assert table.equals(found[name]), (name, moments)


def test_items_of_20_and_60_seconds_give_the_same_segments(run_job, archive, tmp_path):
    for length in ("20", "60"):
        scored(run_job("score", *arguments(archive, tmp_path / length), "--item-s", length))
    short, long = (tables(tmp_path / length)["segments"] for length in ("20", "60"))
    assert len(long) > 20
    same = 0
    for row in long.itertuples():
        near = short[short.recording_uri == row.recording_uri]
        same += ((near.start_s - row.start_s).abs().lt(0.05) & (near.end_s - row.end_s).abs().lt(0.05)).any()
    assert abs(len(short) - len(long)) <= 0.02 * len(long)
    assert same >= 0.98 * len(long)
