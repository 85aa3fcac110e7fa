"""The segments table against loops in plain Python over the same rows."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import ray
from small_run import COLUMNS, LABELS, PARTS, every_segment

from zsfuse_ray.archive.rows import SCORED
from zsfuse_ray.archive.tables import SEGMENTS_PER_ITEM, compact, flatten
from zsfuse_ray.runs.folder import RECORDINGS, REJECTS, SEGMENTS, Output


def test_flatten_has_one_row_a_segment(rows: list[dict], planned: pa.Table) -> None:
    flat = flatten(pa.Table.from_pylist(rows, schema=SCORED), planned, LABELS, PARTS)
    expected = every_segment(rows)
    places: Counter[int] = Counter()
    assert len(flat) == len(expected) > 10
    for row, (recording_id, segment) in zip(flat.to_pylist(), expected, strict=True):
        item_id = segment["item_id"]
        assert row["recording_id"] == recording_id
        assert row["recording_uri"] == planned["uri"][recording_id].as_py()
        assert row["segment_id"] == item_id * SEGMENTS_PER_ITEM + places[item_id]
        places[item_id] += 1
        assert {name: row[name] for name in ("item_id", "start_s", "end_s", "label")} == {
            name: segment[name] for name in ("item_id", "start_s", "end_s", "label")
        }
        for part in ("p", "specialist", "alm"):
            for name, probability in zip(COLUMNS, np.float32(segment[part]), strict=True):
                if (part, name) != ("specialist", "pleasant_surprise"):
                    assert row[f"{part}_{name}"] == probability
        assert row["emotion"] == f"e{recording_id}"
        assert row["manifest_label"] == f"theirs {recording_id}"  # beside the label of this run
        assert "specialist_pleasant_surprise" not in row
    assert len(set(flat["segment_id"].to_pylist())) == len(flat)


def test_flatten_does_not_depend_on_how_rows_are_batched(rows: list[dict], planned: pa.Table) -> None:
    whole = pa.Table.from_pylist(rows, schema=SCORED)
    pieces = [flatten(whole.slice(k, 1), planned, LABELS, PARTS) for k in range(len(rows))]
    keys = [("recording_id", "ascending"), ("start_s", "ascending")]
    assert pa.concat_tables(pieces).sort_by(keys).equals(flatten(whole, planned, LABELS, PARTS))


def test_flatten_without_a_part_has_no_columns_of_it(rows: list[dict], planned: pa.Table) -> None:
    for row in rows:
        for segment in row["segments"]:
            segment["alm"] = None
    names = flatten(
        pa.Table.from_pylist(rows, schema=SCORED), planned, LABELS, {"specialist": LABELS}
    ).column_names
    assert "specialist_sad" in names
    assert not any(name.startswith("alm_") for name in names)


@pytest.mark.parametrize("silent", ["no rows", "rows without segments"])
def test_no_segments_still_have_all_columns(rows: list[dict], planned: pa.Table, silent: str) -> None:
    full = flatten(pa.Table.from_pylist(rows, schema=SCORED), planned, LABELS, PARTS)
    quiet = [] if silent == "no rows" else [row | {"segments": []} for row in rows]
    flat = flatten(pa.Table.from_pylist(quiet, schema=SCORED), planned, LABELS, PARTS)
    assert len(flat) == 0
    assert flat.schema == full.schema


def test_compaction_writes_three_tables_without_ray(out: Output, rows: list[dict], planned: pa.Table) -> None:
    out.write_table(f"{SEGMENTS}/leftover.parquet", out.read_table(SEGMENTS))
    counts = compact(out, LABELS, PARTS)
    assert not ray.is_initialized()
    assert len(out.read_table(SEGMENTS)) == counts["segments"] == len(every_segment(rows))
    assert len(out.read_table(RECORDINGS)) == counts["recordings"] - counts["unreadable"] == 4
    assert len(out.read_table(REJECTS)) == sum(counts["rejects"].values()) == 3
    before = {name: out.read_table(name) for name in (SEGMENTS, RECORDINGS, REJECTS)}
    assert compact(out, LABELS, PARTS) == counts
    assert {name: out.read_table(name) for name in before} == before
