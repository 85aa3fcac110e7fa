"""The same archive gives the same tables, however the work is divided.

The rows must be equal to the last bit where the bundles are the same: the plan alone determines which clips
share a batch. Another order of the archive makes other bundles, and can change the last bits of float16.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.jobs.jobs_support import scored, speech, tables, wait_for, write_wav
from zsfuse_ray.archive import bundles, stream

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Recordings of one to three items, and a broken one."""
    folder = tmp_path_factory.mktemp("archive")
    for n in range(5):
        write_wav(folder / f"{n}.wav", speech(15 + 9 * n, seed=n))
    (folder / "broken.mp3").write_bytes(b"no audio")
    return folder


def arguments(source: Path, out: Path) -> list[str]:
    return ["--input", str(source), "--output", str(out), "--item-s", "20", "--max-reject-rate", "1"]


@pytest.fixture(scope="module")
def expected(run_job: Callable, archive: Path, tmp_path_factory) -> dict[str, pd.DataFrame]:
    """Tables of a run with one actor."""
    out = tmp_path_factory.mktemp("expected") / "out"
    scored(run_job("score", *arguments(archive, out), "--encoders", "1"))
    found = tables(out)
    assert len(found["segments"]) > 20
    return found


def equal(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True, obj=name)


VARIANTS = {
    "four workers": (["--encoders", "4"], {}),
    "separate pools": (["--pools", "separate", "--encoders", "1"], {}),
    "separate pools of two": (["--pools", "separate", "--encoders", "2"], {}),
    "blocks of two bundles": ([], {(stream, "BLOCKS_WANTED"): 4}),
    "one block": ([], {(stream, "BLOCKS_WANTED"): 1, (stream, "MAX_BUNDLES_PER_BLOCK"): 1000}),
    "short parts": ([], {(bundles, "PART_S"): 40.0}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_dividing_the_work_changes_nothing(expected, run_job, archive, tmp_path, monkeypatch, name: str):
    options, changes = VARIANTS[name]
    for (module, constant), value in changes.items():
        monkeypatch.setattr(module, constant, value)
    scored(run_job("score", *arguments(archive, tmp_path / "out"), *options))
    equal(tables(tmp_path / "out"), expected)


@pytest.mark.parametrize("pools", ["shared", "separate"])
def test_a_run_resumed_by_other_workers_changes_nothing(
    expected, run_job, cluster, archive, tmp_path, monkeypatch, pools: str
):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "zsfuse_ray", "score", *arguments(archive, out), "--encoders", "1"],
        env=cluster,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def some_written() -> bool:
        assert process.poll() is None, "the job ended before it could be killed"
        return len(list((out / "encoded" / "checkpoint-000").glob("*.parquet"))) >= 2

    wait_for(some_written, 180, "the first bundles")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(stream, "BLOCKS_WANTED", 3)
    scored(run_job("score", *arguments(archive, out), "--encoders", "3", "--pools", pools))
    equal(tables(out), expected)


def test_another_order_of_the_archive_gives_the_same_labels(expected, run_job, archive, tmp_path):
    files = [archive / f"{n}.wav" for n in (3, 0, 4, 2, 1)]
    pd.DataFrame({"uri": map(str, files)}).to_csv(tmp_path / "list.csv", index=False)
    scored(run_job("score", *arguments(tmp_path / "list.csv", tmp_path / "out")))
    by = ["recording_uri", "start_s"]
    tables_of = (tables(tmp_path / "out"), expected)
    found, wanted = (one["segments"].sort_values(by).reset_index(drop=True) for one in tables_of)
    for column in wanted.columns.difference(["recording_id", "item_id", "segment_id"]):
        if wanted[column].dtype.kind == "f":
            np.testing.assert_allclose(found[column], wanted[column], atol=2e-3, err_msg=column)
        elif column == "label":
            certain = wanted.confidence - np.sort(wanted.filter(regex="^p_"), axis=1)[:, -2] > 4e-3
            assert (found.label[certain] == wanted.label[certain]).all()
            assert certain.mean() > 0.9
        else:
            assert found[column].equals(wanted[column]), column
