"""Files among the rows of a run that are cut off, not ours, or there twice."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, Small, small_archive
from tests.archive.labelled_parts import label_all, tables, task_of
from zsfuse_ray.archive.passes import Computed, read_passes
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.archive.settle import encodes_damaged_again, settle
from zsfuse_ray.archive.whole import DamagedPass
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError

EVERY = {"alm": (1, 2), "specialist": ()}


def files_of(small: Small) -> list[Path]:
    return [Path(path) for path in sorted(small.out.parquet_files("encoded/000"))]


def junk(folder: Path) -> None:
    """Files that a full disk, an editor or another program leaves."""
    (folder / "0000aaaa-0.parquet").write_bytes(b"")
    (folder / "zz-0.parquet").write_bytes(b"PAR1" + bytes(100))
    (folder / "both-ends.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "notes.txt").write_text("mine")
    pa.parquet.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
    pa.parquet.write_table(pa.table({"bundle_id": [0]}), folder / "half-foreign.parquet")


def test_junk_among_the_rows_is_ignored(small: Small, tmp_path_factory: pytest.TempPathFactory) -> None:
    clean = small_archive(tmp_path_factory.mktemp("clean"))
    for one in (clean, small):
        one.encode({"specialist": Computed()}, {"alm": Computed((1, 2))}, per_file=2)
    for path in (small.out.path("encoded/000/part=0"), small.out.path("encoded/001/part=1")):
        junk(Path(path))
    for one in (clean, small):
        encoded = read_passes(one.out)
        assert encoded is not None
        label_all(task_of(one, encoded))
    assert tables(small) == tables(clean)


def test_a_bundle_that_is_there_twice_counts_once(small: Small, tmp_path_factory) -> None:
    """Within a file, in a file of its own, and beside new ones; in the first pass and in a later one."""
    clean = small_archive(tmp_path_factory.mktemp("clean"))
    for one in (clean, small):
        one.encode({"specialist": Computed()}, {"alm": Computed((1, 2))})
    for number in ("000", "001"):
        folder = Path(small.out.path(f"encoded/{number}/part=0"))
        first, second, *_ = (
            pa.parquet.read_table(path, partitioning=None) for path in sorted(folder.iterdir())
        )
        pa.parquet.write_table(second, folder / "a.parquet")
        pa.parquet.write_table(pa.concat_tables([first, first, second]), folder / "zz.parquet")
    for one in (clean, small):
        encoded = read_passes(one.out)
        assert encoded is not None
        label_all(task_of(one, encoded))
    assert tables(small) == tables(clean)


def test_the_checkpoint_is_written_from_the_rows(small: Small) -> None:
    encoded = small.encode(BOTH)
    one, every = encoded.passes[0], len(small.rows)
    checkpoint = Path(small.out.path(one.checkpoint))
    checkpoint.mkdir()
    (checkpoint / "cut.parquet").write_bytes(b"")
    (checkpoint / "x.pending.parquet").write_bytes(b"PAR1")
    assert settle(small.plan, one, False) == every
    done = pa.parquet.read_table(checkpoint)["bundle_id"].to_pylist()
    assert sorted(done) == [row["bundle_id"] for row in small.rows]
    first, second, *_ = files_of(small)
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    second.unlink()
    junk(first.parent)
    assert settle(small.plan, one, False) == every - 2
    done = pa.parquet.read_table(checkpoint)["bundle_id"].to_pylist()
    assert sorted(done) == [row["bundle_id"] for row in small.rows[2:]]
    left = {path.name for path in first.parent.iterdir()}
    assert {"foreign.parquet", "notes.txt"} <= left
    assert not left & {first.name, "0000aaaa-0.parquet", "zz-0.parquet"}


def test_settling_an_empty_pass(small: Small) -> None:
    encoded = small.encode(BOTH, rows=[[]])
    assert settle(small.plan, encoded.passes[0], False) == 0
    assert not small.out.exists(encoded.passes[0].checkpoint)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :],
    ],
)
def test_damaged_rows_are_encoded_again(small: Small, damage: Callable[[bytes], bytes]) -> None:
    small.encode(BOTH)
    path = files_of(small)[0]
    content = path.read_bytes()
    path.write_bytes(damage(content))
    seen = []

    def verb(config: ScoreConfig) -> str:
        encoded = read_passes(small.out)
        assert encoded is not None
        seen.append((encoded.passes[0].complete, path.exists(), config.overwrite))
        if not encoded.passes[0].complete:
            path.write_bytes(content)
        for part in small.parts:
            list(read_part(encoded, part, EVERY, vectors=True))
        return "labelled"

    config = ScoreConfig(input="x", output=small.out.root, overwrite=True)
    assert encodes_damaged_again(verb)(config) == "labelled"
    assert seen == [(True, True, True), (False, False, False)]


def test_rows_that_stay_damaged_are_an_error(small: Small) -> None:
    encoded = small.encode(BOTH)
    files_of(small)[0].write_bytes(b"")

    def verb(config: ScoreConfig) -> None:
        files_of(small)[0].write_bytes(b"")
        list(read_part(encoded, small.parts[0], EVERY))

    with pytest.raises(InputError, match="a file in it is damaged") as caught:
        encodes_damaged_again(verb)(ScoreConfig(input="x", output=small.out.root))
    assert isinstance(caught.value, DamagedPass)
