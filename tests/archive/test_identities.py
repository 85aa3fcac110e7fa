"""Identity and version of recordings."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.archive.listed_files import manifest, touch
from zsfuse_ray.archive.listing import KEY, VERSION, list_archive


def identities(table: pa.Table) -> tuple[list[int], list[int]]:
    """Keys and versions of a listing."""
    return table[KEY].to_pylist(), table[VERSION].to_pylist()


@pytest.mark.parametrize("change", ["resized", "touched"])
def test_a_changed_file_is_a_new_version_of_the_same_recording(tmp_path: Path, change: str) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    keys, versions = identities(list_archive(str(tmp_path)))
    path = tmp_path / "b.wav"
    if change == "resized":
        then = path.stat().st_mtime_ns
        path.write_bytes(b"longer audio")
        os.utime(path, ns=(then, then))
    else:
        os.utime(path, ns=(1, 10**18))
    keys_now, versions_now = identities(list_archive(str(tmp_path)))
    assert keys_now == keys
    assert (versions_now[0], versions_now[1] != versions[1]) == (versions[0], True)


def test_a_renamed_file_is_another_recording(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    keys, versions = identities(list_archive(str(tmp_path)))
    (tmp_path / "b.wav").rename(tmp_path / "c.wav")
    keys_now, versions_now = identities(list_archive(str(tmp_path)))
    assert (keys_now[0], keys_now[1] != keys[1]) == (keys[0], True)
    assert versions_now == versions


ROW = {"uri": "a.wav", "start_s": 1.0, "end_s": 2.0, "id": "x", "emotion": "sad", "take": 3}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"uri": "b.wav"}, True),
        ({"start_s": 1.5}, True),
        ({"start_s": None}, True),
        ({"end_s": 2.5}, True),
        ({"id": "y"}, True),
        ({"emotion": "happy"}, False),
        ({"emotion": None}, False),
        ({"take": 4}, False),
    ],
)
def test_uri_slice_and_id_identify_a_row_of_a_manifest(tmp_path: Path, suffix, change, is_another) -> None:
    """The other columns determine its version."""
    rows = [ROW, ROW | {"uri": "other.wav"}]
    keys, versions = identities(list_archive(manifest(tmp_path, suffix, rows)))
    changed = [ROW | change, ROW | {"uri": "other.wav"}]
    keys_now, versions_now = identities(list_archive(manifest(tmp_path, suffix, changed)))
    assert (keys_now[0] != keys[0], versions_now[0] != versions[0]) == (is_another, not is_another)
    assert (keys_now[1], versions_now[1]) == (keys[1], versions[1])


def test_a_category_is_identified_by_its_text(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    seen = []
    for emotion in ("sad", "happy"):  # as pandas writes categories
        plain = pa.array([emotion])
        for values in (plain, plain.dictionary_encode()):
            pq.write_table(pa.table({"uri": ["a"], "emotion": values}), path)
            seen.append(identities(list_archive(str(path))))
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_equal_rows_have_different_keys(tmp_path: Path) -> None:
    """The keys do not depend on where the rows are in the manifest."""
    twice = [ROW, ROW | {"uri": "b.wav"}, ROW, ROW]
    keys, versions = identities(list_archive(manifest(tmp_path, ".csv", twice)))
    assert len(set(keys)) == 4
    assert versions[0] == versions[2] == versions[3]
    (alone,), _ = identities(list_archive(manifest(tmp_path, ".csv", [ROW])))
    assert keys[0] == alone
    apart = [ROW | {"uri": "c.wav"}, ROW, ROW, ROW | {"uri": "d.wav"}, ROW]
    again, _ = identities(list_archive(manifest(tmp_path, ".csv", apart)))
    assert [again[n] for n in (1, 2, 4)] == [keys[n] for n in (0, 2, 3)]


def test_identities_are_the_same_in_every_process(tmp_path: Path) -> None:
    path = manifest(tmp_path, ".csv", [ROW, ROW, ROW | {"uri": "ünï.wav", "end_s": None}])
    program = (
        "import sys; from zsfuse_ray.archive.listing import *; table = list_archive(sys.argv[1]); "
        "print(table[KEY].to_pylist(), table[VERSION].to_pylist())"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program, path],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = " ".join(map(str, identities(list_archive(path))))
    assert [text.strip() for text in printed] == [here, here]


def test_identities_do_not_depend_on_how_a_manifest_is_stored(tmp_path: Path) -> None:
    n = 70_000  # more than is hashed at once
    ends = pa.array([None if i % 7 else 1 + i / 3 for i in range(n)], pa.float64())
    table = pa.table({"uri": [f"s3://bucket/{i}" for i in range(n)], "end_s": ends})
    path = tmp_path / "list.parquet"
    seen = []
    for size in (n, 13_001):
        pq.write_table(table, path, row_group_size=size)
        seen.append(identities(list_archive(str(path))))
    assert seen[0] == seen[1]
    assert len(set(seen[0][0])) == n
