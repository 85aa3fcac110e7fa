"""--prior in whole runs: its message and record, and an archive that grows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tests.jobs.jobs_support import scored, speech, tables, write_wav

LABELS = ["angry", "happy", "sad"]
SHARES = {"angry": 0.2, "happy": 0.3, "sad": 0.5}


def means(segments: pd.DataFrame, kind: str) -> list[float]:
    """The mean of a model's columns by speech time."""
    seconds = segments.end_s - segments.start_s
    return [float(np.average(segments[f"{kind}_{label}"], weights=seconds)) for label in LABELS]


def arguments(folder: Path, out: str = "out") -> list:
    usual = ["--preset", "untrained", "--vad", "none", "--labels", ",".join(LABELS)]
    prior = ["--prior", folder / "shares.yaml"]
    return ["--input", folder / "in", "--output", folder / out, *usual, *prior]


def test_a_growing_archive_has_the_wanted_means(run_job, tmp_path):
    (tmp_path / "shares.yaml").write_text("{sad: 50, angry: 20, happy: 30}")
    for n in range(2):
        write_wav(tmp_path / "in" / f"{n}.wav", speech(25, seed=n))
    printed = scored(run_job("score", *arguments(tmp_path)))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    first = tables(tmp_path / "out")["segments"]
    assert f"({len(first)} segments sampled)" in printed
    assert "prior given, mean posterior by speech time: " in printed
    assert run["config"]["prior"] == run["prior"]["wanted"] == SHARES
    for kind in ("p", "alm"):
        np.testing.assert_allclose(means(first, kind), list(SHARES.values()), atol=1e-4)
    assert "nothing to do" in run_job("score", *arguments(tmp_path)).stderr

    write_wav(tmp_path / "in" / "2.wav", speech(30, seed=5))
    scored(run_job("score", *arguments(tmp_path)))
    assert len(pd.read_parquet(tmp_path / "out" / "encoded" / "001")["items"]) == 1  # the new recording
    grown = tables(tmp_path / "out")["segments"]
    np.testing.assert_allclose(means(grown, "p"), list(SHARES.values()), atol=1e-4)
    of_before = grown[~grown.recording_uri.str.endswith("2.wav")].reset_index(drop=True)
    assert not of_before.p_sad.equals(first.p_sad)
    scored(run_job("score", *arguments(tmp_path, "fresh")))
    fresh = tables(tmp_path / "fresh")["segments"]
    np.testing.assert_allclose(grown.p_sad, fresh.p_sad, atol=1e-3)  # another batch changes the last bits


def test_a_wrong_file_is_refused_before_anything_is_written(run_job, tmp_path):
    (tmp_path / "shares.yaml").write_text("{sad: 0.5, angry: 0.2, hapy: 0.3}")
    refused = run_job("score", *arguments(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert 'unknown label hapy (did you mean "happy"?)' in refused.stderr
    assert not (tmp_path / "out").exists()
