"""Whose speech segments are, and a summary per speaker or channel of a recording."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from zsfuse_ray.archive.normalise import CHANNEL, SPEAKER
from zsfuse_ray.method.labels import column

pc: Any = pyarrow.compute

CHANNEL_NAMES = "channels"  # the manifest's column, such as "agent,customer"
WHO = (CHANNEL, "channel_name", SPEAKER)  # columns that say whose speech a segment is


def who_columns(segments: pa.Table, source: pa.Table) -> dict[str, Any]:
    """Return the columns WHO and overlap that a table has: channel_name if the manifest names channels.

    segments: with the columns of `Encoded.span_columns`; source: the recording of each.
    """
    columns: dict[str, Any] = {
        name: segments[name] for name in (*WHO, "overlap") if name in segments.column_names
    }
    if CHANNEL not in columns:
        return columns
    if CHANNEL_NAMES in source.column_names and pa.types.is_string(source.schema.field(CHANNEL_NAMES).type):
        places = zip(segments[CHANNEL].to_pylist(), source[CHANNEL_NAMES].to_pylist(), strict=True)
        columns["channel_name"] = pa.array([_name_of(n, names) for n, names in places], pa.string())
    return columns


def _name_of(channel: int, names: str | None) -> str | None:
    """The name of a channel in a list such as "agent,customer"; None if it has none."""
    found = [name.strip() for name in (names or "").split(",")]
    return (found[channel] or None) if channel < len(found) else None


def summarise_speakers(segments: pa.Table, who: Sequence[str], labels: Sequence[str]) -> pa.Table:
    """One row per speaker or channel of a recording: speech, label shares, dominant label, confidence.

    segments: all of some whole recordings, labelled; who: those of their columns that say whose speech it is.
    """
    seconds = pc.subtract(segments["end_s"], segments["start_s"])
    keys = ["recording_id", "recording_uri", *who]
    timed = pa.table(
        {name: segments[name] for name in (*keys, "confidence")}
        | {"speech_s": seconds}
        | {f"label {n}": _only(seconds, segments["label"], name) for n, name in enumerate(labels)}
    )
    sums = [("speech_s", "sum"), *((f"label {n}", "sum") for n in range(len(labels)))]
    found = timed.group_by(keys, use_threads=False).aggregate(  # threads would sum in another order each time
        [("confidence", "mean"), ("speech_s", "count"), *sums]
    )
    found = found.sort_by([(name, "ascending") for name in keys])
    speech = found["speech_s_sum"].to_numpy()
    shares = np.stack([found[f"label {n}_sum"].to_numpy() / speech for n in range(len(labels))], axis=1)
    columns: dict[str, Any] = {name: found[name] for name in ("recording_uri", *who)}
    columns |= {"speech_s": found["speech_s_sum"], "n_segments": found["speech_s_count"]}
    columns["dominant_label"] = pa.array(labels, pa.string()).take(pa.array(shares.argmax(axis=1)))
    columns["mean_confidence"] = found["confidence_mean"]
    columns |= {f"share_{column(name)}": pa.array(shares[:, n]) for n, name in enumerate(labels)}
    return pa.table(columns | {"recording_id": found["recording_id"]})


def _only(seconds: pa.ChunkedArray, labels: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(labels, name), seconds, 0.0)
