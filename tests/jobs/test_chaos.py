"""Kill workers, actors, nodes and drivers at seeded moments: the tables are those of an undisturbed run.

`-m long` runs 30 schedules, `-s` prints what happened in them.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.jobs.chaos import KINDS, Nodes, endure, files_in, nodes, schedule
from tests.jobs.jobs_support import ROOT, speech, tables, write_wav

SCHEDULES = 30
# A run with short parts, so that there are several, and blocks of one bundle.
SHORT_PARTS = """
import sys
from zsfuse_ray.archive import bundles
from zsfuse_ray.cli import run
bundles.PART_S = 60.0
run(["score", *sys.argv[1:]])
"""
MODEL = ["--specialist", "tests.jobs.toy_models:Loudness", "--alm", "none", "--normalise", "none"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with nodes(tmp_path_factory.mktemp("nodes"), {**os.environ, "PYTHONPATH": str(ROOT)}) as started:
        yield started


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings for a dozen bundles, most of them of 20 s, and a broken one."""
    folder = tmp_path_factory.mktemp("archive")
    for n in range(6):
        write_wav(folder / f"{n}.wav", speech(35 + n, seed=n))
    (folder / "broken.mp3").write_bytes(b"no audio")
    return folder


def command(archive: Path, out: Path) -> list[str]:
    options = ["--input", str(archive), "--output", str(out), "--item-s", "20", "--max-reject-rate", "1"]
    return [
        sys.executable,
        "-c",
        SHORT_PARTS,
        *options,
        "--encoders",
        "2",
        "--vad",
        "none",
        "--labels",
        "sad,angry",
        *MODEL,
    ]


@pytest.fixture(scope="module")
def undisturbed(cluster: Nodes, archive: Path, tmp_path_factory) -> tuple[int, dict[str, pd.DataFrame]]:
    """The number of files of a run that nothing disturbs, and its tables."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    endured = endure(cluster, command(archive, out), out, [], 0, lambda: None)
    assert endured.codes == [0]
    found = tables(out)
    assert len(list((out / "segments").glob("*.parquet"))) >= 3
    assert len(found["segments"]) >= 6
    return files_in(out), found


def visible(out: Path, expected: pd.DataFrame) -> None:
    """Fail if a reader of the segments finds rows that are not those of an undisturbed run, or one twice."""
    parts = [pd.read_parquet(path) for path in sorted((out / "segments").glob("*.parquet"))]
    if parts:
        found = pd.concat(parts).sort_values("segment_id").reset_index(drop=True)
        own: Any = expected[expected.segment_id.isin(found.segment_id)]
        pd.testing.assert_frame_equal(found, own.reset_index(drop=True), check_exact=True)


def test_schedules_are_remade_from_their_seed() -> None:
    made = [schedule(seed, 40) for seed in range(SCHEDULES)]
    assert made == [schedule(seed, 40) for seed in range(SCHEDULES)]
    assert {event.kind for events in made for event in events} == set(KINDS)
    assert all(0 <= event.files <= 40 for events in made for event in events)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_whatever_is_killed_the_tables_are_the_same(
    cluster: Nodes, archive: Path, undisturbed, tmp_path: Path, seed: int
) -> None:
    files, expected = undisturbed
    cluster.mend()
    out, events = tmp_path / "out", schedule(seed, files)
    endured = endure(
        cluster, command(archive, out), out, events, seed, lambda: visible(out, expected["segments"])
    )
    found = tables(out)
    rows = {name: len(table) for name, table in found.items()}
    ids = found["segments"].segment_id
    lost = len(set(expected["segments"].segment_id) - set(ids))
    print(f"\nschedule {seed}: {endured}; rows {rows}, {lost} lost, {ids.duplicated().sum()} doubled")
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True, obj=name)
