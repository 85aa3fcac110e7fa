"""Compaction: the rows of ``items/`` → the tables people read: segments, recordings, rejects.

All three are made anew from ``items/`` each time, so a compaction that was killed leaves nothing behind.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from zsfuse_ray.archive.output import (
    BUNDLES,
    ITEMS,
    RECORDINGS,
    RECORDINGS_PLANNED,
    REJECTS,
    SEGMENTS,
    Output,
)
from zsfuse_ray.archive.rows import ITEM_DONE, SCORED
from zsfuse_ray.audio.sources import redact
from zsfuse_ray.method.amplify import Fill, effects
from zsfuse_ray.method.labels import column

FILES_BY_HAND = 64
ARC_PARTS = 10  # of a recording, each with its dominant label
SEGMENTS_PER_ITEM = 1_000_000  # segment_id = item_id · this + place in the item
PLANNED = ("recording_id", "uri", "start_s", "end_s", "size")  # then a manifest's columns, then probe_*

# Reasons that are no failure: nothing was lost.
HARMLESS = ("no_speech", "not_a_recording")

REJECT = pa.schema(
    [
        ("recording_uri", pa.string()),
        ("recording_id", pa.int64()),
        ("item_id", pa.int64()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)


def compact(out: Output, labels: Sequence[str], parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Write segments/, recordings/ and rejects/; return the counts for run.json.

    parts: the labels that the run's "specialist" and "alm" know; each gets its own probability columns.
    """
    planned = _planned(out)
    for name in (SEGMENTS, RECORDINGS, REJECTS):
        out.delete(name)
    files = out.parquet_files(ITEMS)
    if 0 < len(files) <= FILES_BY_HAND:  # sooner done than a task is started
        out.write_table(
            f"{SEGMENTS}/segments.parquet", flatten(out.read_table(ITEMS), planned, labels, parts)
        )
    elif files:
        rows = ray.data.read_parquet(out.path(ITEMS), filesystem=out.fs)
        rows.map_batches(
            _flatten_task, fn_args=(ray.put(planned), labels, parts), batch_size=None, batch_format="pyarrow"
        ).write_parquet(out.path(SEGMENTS), filesystem=out.fs)
    if not out.parquet_files(SEGMENTS):  # a table without rows still has its columns
        out.write_table(f"{SEGMENTS}/segments.parquet", flatten(SCORED.empty_table(), planned, labels, parts))
    done = _items_done(out)
    recordings = _recordings(out, planned, done, labels)
    rejects = _rejects(out, planned, done, recordings)
    out.write_table(f"{RECORDINGS}/recordings.parquet", recordings.drop_columns(["recording_id"]))
    out.write_table(f"{REJECTS}/rejects.parquet", rejects.drop_columns(["recording_id"]))
    failed = pc.sum(pc.invert(pc.is_in(rejects["reason"], pa.array(HARMLESS)))).as_py() or 0
    reasons = rejects.group_by("reason").aggregate([("reason", "count")])
    return {
        "recordings": len(planned),
        "items": len(done),
        "unreadable": len(planned) - len(recordings),
        "segments": pc.sum(recordings["n_segments"]).as_py() or 0,
        "audio_hours": (pc.sum(done["audio_s"]).as_py() or 0.0) / 3600,
        "speech_hours": (pc.sum(recordings["speech_s"]).as_py() or 0.0) / 3600,
        "failures": failed,
        "rejects": dict(
            sorted(zip(reasons["reason"].to_pylist(), reasons["reason_count"].to_pylist(), strict=True))
        ),
        "label_shares": _label_shares(recordings, labels),
        "encoder_inputs": pc.sum(done["encoder_inputs"]).as_py() or 0,
    }


def _planned(out: Output) -> pa.Table:
    """The planned recordings with the URI that people see: without credentials."""
    table = out.read_table(RECORDINGS_PLANNED).sort_by("recording_id")
    uris = pa.array([redact(uri) for uri in table["uri"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("uri"), "uri", uris)


def carried(planned: pa.Table) -> list[str]:
    """Names of a manifest's own columns."""
    return [n for n in planned.column_names if n not in PLANNED and not n.startswith("probe_")]


def _flatten_task(
    batch: pa.Table, planned: Any, labels: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> pa.Table:
    return flatten(batch, ray.get(planned), labels, parts)


def flatten(
    rows: pa.Table, planned: pa.Table, labels: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> pa.Table:
    """SCORED rows → segments, one a row, by recording and time."""
    items = pc.list_flatten(rows["items"].combine_chunks())
    spans = pc.list_flatten(rows["segments"].combine_chunks())
    owner = pa.Table.from_struct_array(items).select(["item_id", "recording_id"])
    flat = pa.Table.from_struct_array(spans)
    item_ids = flat["item_id"].to_numpy()
    # every segment's item is among its row's items, so both lookups always find one
    recording_ids = owner["recording_id"].take(
        pc.index_in(flat["item_id"], owner["item_id"].combine_chunks())
    )
    source = planned.take(pc.index_in(recording_ids, planned["recording_id"].combine_chunks()))
    starts = np.flatnonzero(np.diff(item_ids, prepend=-1))
    place = np.arange(len(item_ids)) - np.repeat(starts, np.diff(starts, append=len(item_ids)))
    columns: dict[str, Any] = {
        "recording_uri": source["uri"],
        "recording_id": recording_ids,
        "item_id": flat["item_id"],
        "segment_id": pa.array(item_ids * SEGMENTS_PER_ITEM + place, pa.int64()),
    }
    columns |= {n: flat[n] for n in ("start_s", "end_s", "speech_prob", "label", "confidence", "entropy")}
    for part, known in {"p": labels, **parts}.items():
        for label in known:
            columns[f"{part}_{column(label)}"] = pc.list_element(flat[part], labels.index(label))
    for name in carried(planned):
        columns[f"manifest_{name}" if name in columns else name] = source[name]
    return pa.table(columns).sort_by([("recording_id", "ascending"), ("start_s", "ascending")])


def _items_done(out: Output) -> pa.Table:
    """One row an item that was written: ITEM_DONE's columns and the encoder inputs of its bundle's first item."""
    fields = [*ITEM_DONE, pa.field("encoder_inputs", pa.int64())]
    parts = []
    if out.parquet_files(ITEMS):
        for batch in out.dataset(ITEMS).to_batches(columns=["items", "encoder_inputs"]):
            items = pa.Table.from_struct_array(pc.list_flatten(batch["items"]))
            inputs = np.zeros(len(items), np.int64)
            inputs[np.r_[0, np.cumsum(pc.list_value_length(batch["items"]).to_numpy())[:-1]].astype(int)] = (
                batch["encoder_inputs"].to_numpy()
            )
            parts.append(items.append_column("encoder_inputs", pa.array(inputs)))
    return pa.concat_tables(parts) if parts else pa.schema(fields).empty_table()


def _recordings(out: Output, planned: pa.Table, done: pa.Table, labels: Sequence[str]) -> pa.Table:
    """One row a recording that could be opened: its summary and its emotion arc."""
    heard = done.group_by("recording_id").aggregate([("audio_s", "sum")])
    audio_s = dict(zip(heard["recording_id"].to_pylist(), heard["audio_s_sum"].to_pylist(), strict=True))
    playable = planned.filter(pc.is_null(planned["probe_reason"]))
    ids = playable["recording_id"].to_pylist()
    begins = [s or 0.0 for s in playable["start_s"].to_pylist()]
    lengths = [audio_s.get(i, 0.0) for i in ids]
    row_of = {recording_id: row for row, recording_id in enumerate(ids)}
    # by speech time: (recordings, parts of the arc, labels), and number and confidence of segments
    time = np.zeros((len(ids), ARC_PARTS, len(labels)))
    number, confidence = np.zeros(len(ids), np.int64), np.zeros(len(ids))
    names = ["recording_id", "start_s", "end_s", "label", "confidence"]
    for batch in out.dataset(SEGMENTS).to_batches(columns=names):
        row = np.array([row_of[i] for i in batch["recording_id"].to_pylist()], np.int64)
        start, end = batch["start_s"].to_numpy(), batch["end_s"].to_numpy()
        middle = (start + end) / 2 - np.array(begins)[row] if len(row) else start
        part = np.clip(ARC_PARTS * middle / np.maximum(np.array(lengths)[row], 1e-9), 0, ARC_PARTS - 1)
        label = pc.index_in(batch["label"], pa.array(labels)).to_numpy()
        np.add.at(time, (row, part.astype(int), label), end - start)
        np.add.at(number, row, 1)
        np.add.at(confidence, row, batch["confidence"].to_numpy())
    speech = time.sum(axis=(1, 2))
    shares = time.sum(axis=1) / np.maximum(speech, 1e-9)[:, None]
    columns: dict[str, Any] = {
        "recording_uri": playable["uri"],
        "recording_id": playable["recording_id"],
        "duration_s": pa.array(lengths, pa.float64()),
        "speech_s": pa.array(speech),
        "n_segments": pa.array(number),
        "dominant_label": _dominant(shares, labels),
        "mean_confidence": pa.array(confidence / np.maximum(number, 1)),
    }
    columns |= {f"share_{column(label)}": pa.array(shares[:, i]) for i, label in enumerate(labels)}
    arcs = [_dominant(parts, labels) for parts in time]
    columns["arc"] = pa.array([arc.to_pylist() for arc in arcs], pa.list_(pa.string()))
    for name in carried(planned):
        columns[f"manifest_{name}" if name in columns else name] = playable[name]
    return pa.table(columns)


def _dominant(shares: np.ndarray, labels: Sequence[str]) -> pa.Array:
    """Name of the largest share in each row, null where there is none."""
    if not len(shares):
        return pa.array([], pa.string())
    return pa.array(
        np.array(labels, object)[shares.argmax(axis=1)], pa.string(), mask=shares.sum(axis=1) == 0
    )


def _rejects(out: Output, planned: pa.Table, done: pa.Table, recordings: pa.Table) -> pa.Table:
    """Everything that did not become labels, each with its stage and reason."""
    uris = planned["uri"]
    rows: list[dict[str, Any]] = []

    def reject(recording_id: int, item_id: int | None, stage: str, reason: str, message: str | None) -> None:
        row = {"recording_uri": uris[recording_id].as_py(), "recording_id": recording_id, "item_id": item_id}
        rows.append(row | {"stage": stage, "reason": reason, "message": message})

    unreadable = planned.filter(pc.is_valid(planned["probe_reason"]))
    for row in unreadable.select(["recording_id", "probe_reason", "probe_message"]).to_pylist():
        reject(row["recording_id"], None, "probe", row["probe_reason"], row["probe_message"])
    failed = done.filter(pc.is_valid(done["reason"]))
    for row in failed.to_pylist():
        reject(row["recording_id"], row["item_id"], row["stage"], row["reason"], row["message"])
    named = set(failed["recording_id"].to_pylist())
    finished = set(done["item_id"].to_pylist())
    for batch in out.dataset(BUNDLES).to_batches(columns=["items"]):
        for item in pc.list_flatten(batch["items"]).to_pylist():
            if item["item_id"] not in finished:
                reject(
                    item["recording_id"],
                    item["item_id"],
                    "run",
                    "lost",
                    "its worker died each time it was tried",
                )
                named.add(item["recording_id"])
    for row in recordings.filter(pc.equal(recordings["n_segments"], 0)).to_pylist():
        if row["recording_id"] not in named:
            reject(row["recording_id"], None, "segment", "no_speech", "no speech was found in it")
    return pa.Table.from_pylist(rows, schema=REJECT)


def _label_shares(recordings: pa.Table, labels: Sequence[str]) -> dict[str, float]:
    """Share of each label in all speech time."""
    speech = recordings["speech_s"].to_numpy()
    total = max(float(speech.sum()), 1e-9)
    return {
        label: float(recordings[f"share_{column(label)}"].to_numpy() @ speech) / total for label in labels
    }


def effective_repetition(
    out: Output, repeats: Sequence[int], sample_rate: int, window: int | None, fill: Fill
) -> dict[str, dict[str, int]]:
    """How many segments each amplification a changed, and how: a → effect → count.

    A segment longer than the model's window counts by the first of its windows.
    """
    total: dict[str, dict[str, int]] = {str(a): {} for a in repeats}
    if not out.parquet_files(ITEMS):
        return total
    for batch in out.dataset(ITEMS).to_batches(columns=["segments"]):
        spans = pa.Table.from_struct_array(pc.list_flatten(batch["segments"]))
        if not len(spans):
            continue
        lengths = np.ceil(spans["samples"].to_numpy() * sample_rate / spans["sample_rate"].to_numpy()).astype(
            int
        )
        lengths = np.maximum(1, lengths if window is None else np.minimum(lengths, window))
        for a, counts in effects(lengths.tolist(), repeats, window, fill).items():
            for effect, count in counts.items():
                total[str(a)][effect] = total[str(a)].get(effect, 0) + count
    return total
