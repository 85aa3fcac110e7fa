"""Exactly once: a run killed half-way and run again ends with the tables of an undisturbed run."""

import os
import signal
import subprocess
import sys
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
        return len(list((killed / "checkpoint").glob("*.parquet"))) >= 3

    wait_for(some_written, 120, "the first bundles")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    written = len(list((killed / "items").glob("*.parquet")))
    assert not (killed / "segments").exists()
    again = run_job("score", *arguments(archive, killed))
    scored(again)
    assert len(list((killed / "items").glob("*.parquet"))) > written, (
        "it was killed too late to show anything"
    )
    first, second = tables(undisturbed), tables(killed)
    for name in first:
        assert first[name].equals(second[name]), name
    assert not second["segments"].duplicated("segment_id").any()


def test_a_compaction_that_was_killed_is_done_again(run_job, archive, tmp_path):
    out = tmp_path / "out"
    scored(run_job("score", *arguments(archive, out)))
    before = tables(out)
    run = (out / "run.json").read_text()
    # as if killed while the tables were written: one half there, one file left over, the run not yet complete
    (out / "run.json").write_text(run.replace('"status": "complete"', '"status": "started"'))
    (out / "rejects" / "rejects.parquet").unlink()
    (out / "segments" / "leftover.parquet").write_bytes(
        next((out / "segments").glob("*.parquet")).read_bytes()
    )
    scored(run_job("score", *arguments(archive, out)))
    after = tables(out)
    for name in before:
        assert before[name].equals(after[name]), name


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
