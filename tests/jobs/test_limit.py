"""A run limited to the first hours, then the whole: the tables are those of an undisturbed run."""

import json

import pytest

from tests.jobs.jobs_support import scored, speech, tables, write_wav


@pytest.mark.long
def test_a_limited_run_continues_to_the_tables_of_a_whole_one(run_job, tmp_path):
    for n in range(4):
        write_wav(tmp_path / "in" / f"{n}.wav", speech(30, seed=n))
    # normalised by recording, the cut recording would have other labels than in the whole run
    usual = ["--input", tmp_path / "in", "--vad", "none", "--item-s", 20, "--normalise", "none"]
    scored(run_job("score", *usual, "--output", tmp_path / "whole"))
    whole, here = tables(tmp_path / "whole"), [*usual, "--output", tmp_path / "out"]

    printed = scored(run_job("score", *here, "--limit-hours", 0.012))
    assert "limited to the first 0.01 of 0.03 h (--limit-hours)" in printed
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["limit"] == pytest.approx({"hours": 50 / 3600, "of_hours": 120 / 3600})
    first = tables(tmp_path / "out")
    assert len(first["recordings"]) == 2
    n = len(first["segments"])
    assert first["segments"].equals(whole["segments"].iloc[:n])
    assert 0 < n < len(whole["segments"])
    again = run_job("score", *here, "--limit-hours", 0.012)
    assert "nothing to do" in again.stderr

    scored(run_job("score", *here))
    for name, table in tables(tmp_path / "out").items():
        assert table.equals(whole[name]), name
    assert json.loads((tmp_path / "out" / "run.json").read_text())["limit"] is None
    again = run_job("score", *here, "--limit-hours", 0.012)  # a finished run is not cut
    assert "nothing to do" in again.stderr
