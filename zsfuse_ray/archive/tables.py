"""Compaction: the rows of ``items/`` → the tables people read: segments, recordings, rejects.

All three are made anew from ``items/`` each time, so a compaction that was killed leaves nothing behind.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import ray
from numpy.typing import NDArray

from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.rows import SCORED
from zsfuse_ray.archive.summaries import counts, items_done, list_rejects, summarise_recordings
from zsfuse_ray.errors import redact
from zsfuse_ray.method.labels import column
from zsfuse_ray.runs.folder import ITEMS, RECORDINGS, RECORDINGS_PLANNED, REJECTS, SEGMENTS, Output

# It makes its functions when it is imported, out of a type checker's sight.
pc: Any = pyarrow.compute

FILES_BY_HAND = 64  # sooner read here than tasks are started
SEGMENTS_PER_ITEM = 1_000_000  # segment_id = item_id · this + place in the item
# What every table of segments begins with.
PLACED = ("recording_uri", "recording_id", "item_id", "segment_id", "start_s", "end_s", "speech_prob")
BY_TIME = [("recording_id", "ascending"), ("start_s", "ascending")]

# Rows of items/ and the planned recordings → one row a segment.
Flatten = Callable[[pa.Table, pa.Table], pa.Table]


def compact(out: Output, labels: Sequence[str], parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Write segments/, recordings/ and rejects/; return the counts for run.json.

    parts: the labels that the run's "specialist" and "alm" know; each gets its own probability columns.
    """
    return compact_as(out, labels, SEGMENTS, SCORED, partial(flatten, labels=labels, parts=parts))


def compact_as(
    out: Output, labels: Sequence[str], name: str, schema: pa.Schema, flat: Flatten, **parquet: Any
) -> dict[str, Any]:
    """Write the table of segments that `flat` makes of rows of this schema, recordings/ and rejects/.

    Returns the counts for run.json. parquet: options of pyarrow's writer for the table of segments.
    """
    planned = planned_recordings(out)
    for table in (name, RECORDINGS, REJECTS):
        out.delete(table)
    _write_segments(out, planned, name, schema, flat, parquet)
    done = items_done(out)
    recordings = summarise_recordings(out, planned, done, labels, name)
    rejects = list_rejects(out, planned, done, recordings)
    out.write_table(f"{RECORDINGS}/recordings.parquet", recordings.drop_columns(["recording_id"]))
    out.write_table(f"{REJECTS}/rejects.parquet", rejects.drop_columns(["recording_id"]))
    return counts(out, planned, done, recordings, rejects, labels)


def planned_recordings(out: Output) -> pa.Table:
    """The planned recordings with the URI that people see: without credentials."""
    table = out.read_table(RECORDINGS_PLANNED).sort_by("recording_id")
    uris = pa.array([redact(uri) for uri in table["uri"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("uri"), "uri", uris)


def _write_segments(
    out: Output, planned: pa.Table, name: str, schema: pa.Schema, flat: Flatten, parquet: Mapping[str, Any]
) -> None:
    files = out.parquet_files(ITEMS)
    if len(files) > FILES_BY_HAND:
        rows = ray.data.read_parquet(out.path(ITEMS), filesystem=out.fs)
        rows.map_batches(
            partial(_flatten_task, planned=ray.put(planned), flat=flat),
            batch_size=None,
            batch_format="pyarrow",
        ).write_parquet(out.path(name), filesystem=out.fs, **parquet)
    elif files:
        out.write_table(f"{name}/{name}.parquet", flat(out.read_table(ITEMS), planned), **parquet)
    if not out.parquet_files(name):  # a table without rows still has its columns
        out.write_table(f"{name}/{name}.parquet", flat(schema.empty_table(), planned), **parquet)


def _flatten_task(batch: pa.Table, planned: Any, flat: Flatten) -> pa.Table:
    return flat(batch, ray.get(planned))


def flatten(
    rows: pa.Table, planned: pa.Table, labels: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> pa.Table:
    """SCORED rows → segments, one a row, by recording and time."""
    columns, spans, source = placed(rows, planned)
    columns |= {name: spans[name] for name in ("label", "confidence", "entropy")}
    for part, known in {"p": labels, **parts}.items():
        for label in known:
            columns[f"{part}_{column(label)}"] = pc.list_element(spans[part], labels.index(label))
    carry(columns, source)
    return pa.table(columns).sort_by(BY_TIME)


def placed(rows: pa.Table, planned: pa.Table) -> tuple[dict[str, Any], pa.Table, pa.Table]:
    """Rows of bundles → the columns that say where each segment lies, the segments, their recordings."""
    items, spans = (
        pa.Table.from_struct_array(rows[name].combine_chunks().flatten()) for name in ("items", "segments")
    )
    item_ids = spans["item_id"].to_numpy()
    # every segment's item is among its row's items, so both lookups always find one
    recording_ids = items["recording_id"].take(
        pc.index_in(spans["item_id"], items["item_id"].combine_chunks())
    )
    source = planned.take(pc.index_in(recording_ids, planned["recording_id"].combine_chunks()))
    starts = np.flatnonzero(np.diff(item_ids, prepend=-1))
    place = np.arange(len(item_ids)) - np.repeat(starts, np.diff(starts, append=len(item_ids)))
    columns: dict[str, Any] = {
        "recording_uri": source["uri"],
        "recording_id": recording_ids,
        "item_id": spans["item_id"],
        "segment_id": pa.array(item_ids * SEGMENTS_PER_ITEM + place, pa.int64()),
    }
    columns |= {name: spans[name] for name in ("start_s", "end_s", "speech_prob")}
    return columns, spans, source


def fixed(values: NDArray) -> pa.FixedSizeListArray:
    """Rows of values (n, size) as a FixedSizeList column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
