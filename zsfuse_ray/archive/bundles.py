"""Cut recordings into items, items into bundles, and recordings into the parts that are labelled together.

The rows that Ray schedules, retries and resumes are *bundles*: one item of a long recording, or several short
recordings with the total length of an item at most. A thousand clips of three seconds are then a dozen rows,
and the plan determines what is batched together on a device, so that a resumed run computes the same bits as
an uninterrupted one. A *part* is a range of whole recordings; no bundle spans two parts.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.audio.turns import turns_between

TURNS = "plan_turns"  # column of the turns of a recording
CONTEXT_S = 300.0  # more than the context of any segmentation, of which an item needs the turns too
BUNDLE_ITEMS = 64  # most short recordings in a bundle, and so the most that one decoder crash can affect
# Limits of a part, which a labelling task holds in memory: some 100,000 segments, without their embeddings.
PART_S = 100 * 3600.0
PART_RECORDINGS = 50_000


def cut_parts(recordings: pa.Table) -> NDArray[np.int64]:
    """The part of each recording, numbered from 0; none exceeds PART_S or PART_RECORDINGS."""
    part_of = np.empty(len(recordings), np.int64)
    part, seconds, number = 0, 0.0, 0
    for place, row in enumerate(_rows(recordings)):
        begin, end = _span(row) if row["probe_reason"] is None else (0.0, 0.0)
        length = max(0.0, end - begin)
        if number and (seconds + length > PART_S or number == PART_RECORDINGS):
            part, seconds, number = part + 1, 0.0, 0
        seconds, number = seconds + length, number + 1
        part_of[place] = part
    return part_of


def bundle_items(
    recordings: pa.Table, item_s: float, first_bundle: int = 0, first_item: int = 0
) -> Iterator[dict[str, Any]]:
    """BUNDLE rows of planned recordings, in order; ids start at first_bundle and first_item."""
    bundle: dict[str, Any] = {}
    seconds, bundle_id = 0.0, first_bundle
    for item_id, (part, item) in enumerate(_items(recordings, item_s), start=first_item):
        length = item["end_s"] - item["start_s"]
        if bundle and (
            seconds + length > item_s or len(bundle["items"]) == BUNDLE_ITEMS or bundle["part"] != part
        ):
            yield bundle
            bundle, seconds, bundle_id = {}, 0.0, bundle_id + 1
        bundle = bundle or {"bundle_id": bundle_id, "part": part, "items": []}
        bundle["items"].append({"item_id": item_id, **item})
        seconds += length
    if bundle:
        yield bundle


def _items(recordings: pa.Table, item_s: float) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in _rows(recordings):
        if row["probe_reason"] is not None:
            continue
        begin, end = _span(row)
        count = max(1, math.ceil(round((end - begin) / item_s, 6)))
        for k in range(count):
            item = {
                "recording_id": row["recording_id"],
                "uri": row["uri"],
                "slice_start_s": begin,
                "slice_end_s": row["end_s"],
                "start_s": k * item_s,
                "end_s": min((k + 1) * item_s, max(end - begin, 0.0)),
                "last": k == count - 1,
                "exact": row["probe_exact"] or row["end_s"] is not None,
            }
            if TURNS in row:
                clock = (begin + item["start_s"] - CONTEXT_S, begin + item["end_s"] + CONTEXT_S)
                turns = row[TURNS]
                item["turns"] = None if turns is None else turns_between(turns, *clock)
            yield row["plan_part"], item


def _span(row: dict[str, Any]) -> tuple[float, float]:
    """Start and end of a recording, or of the manifest's slice of it, in seconds."""
    begin = row["start_s"] or 0.0
    end = row["probe_duration_s"] if row["end_s"] is None else row["end_s"]
    return begin, min(end, row["probe_duration_s"]) if row["probe_exact"] else end


def _rows(recordings: pa.Table) -> Iterator[dict[str, Any]]:
    names = ["recording_id", "uri", "start_s", "end_s", "probe_duration_s", "probe_exact", "probe_reason"]
    names += [name for name in ("plan_part", TURNS) if name in recordings.column_names]
    for batch in recordings.select(names).to_batches(max_chunksize=65536):
        yield from batch.to_pylist()
