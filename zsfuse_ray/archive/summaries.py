"""What the items of a run come to: a row a recording, a row a reject, and the counts in run.json."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.rows import ITEM_DONE, segment_seed
from zsfuse_ray.method.amplify import Fill, effects
from zsfuse_ray.method.labels import column
from zsfuse_ray.runs.folder import BUNDLES, ITEMS, SEGMENTS, Output

ARC_PARTS = 10  # of a recording, each with its dominant label

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


def items_done(out: Output) -> pa.Table:
    """One row an item that was written: ITEM_DONE's columns."""
    if not out.parquet_files(ITEMS):
        return pa.schema(list(ITEM_DONE)).empty_table()
    of_bundles = out.read_table(ITEMS, ["items"])["items"]
    return pa.Table.from_struct_array(of_bundles.combine_chunks().flatten())


def summarise_recordings(
    out: Output, planned: pa.Table, done: pa.Table, labels: Sequence[str], table: str = SEGMENTS
) -> pa.Table:
    """One row a recording that could be opened: its summary, and its emotion arc where there are labels.

    done: recording_id and audio_s of each part of it that was heard. table: where the segments are.
    """
    heard = done.group_by("recording_id").aggregate([("audio_s", "sum")])
    audio_s = dict(zip(heard["recording_id"].to_pylist(), heard["audio_s_sum"].to_pylist(), strict=True))
    playable = planned.filter(planned["probe_reason"].is_null())
    ids = playable["recording_id"].to_pylist()
    begins = np.array([s or 0.0 for s in playable["start_s"].to_pylist()])
    lengths = np.array([audio_s.get(i, 0.0) for i in ids])
    row_of = {recording_id: row for row, recording_id in enumerate(ids)}
    index_of = {label: index for index, label in enumerate(labels)}
    # by speech time: (recordings, parts of the arc, labels), and number and confidence of segments
    time = np.zeros((len(ids), ARC_PARTS, max(1, len(labels))))
    number, confidence = np.zeros(len(ids), np.int64), np.zeros(len(ids))
    names = ["recording_id", "start_s", "end_s", *(["label", "confidence"] if labels else [])]
    for batch in out.dataset(table).to_batches(columns=names):
        row = np.array([row_of[i] for i in batch["recording_id"].to_pylist()], np.int64)
        label = np.zeros(len(row), np.int64)
        if labels:
            label = np.array([index_of[name] for name in batch["label"].to_pylist()], np.int64)
            np.add.at(confidence, row, batch["confidence"].to_numpy())
        start, end = batch["start_s"].to_numpy(), batch["end_s"].to_numpy()
        middle = (start + end) / 2 - begins[row]
        part = np.clip(ARC_PARTS * middle / np.maximum(lengths[row], 1e-9), 0, ARC_PARTS - 1)
        np.add.at(time, (row, part.astype(int), label), end - start)
        np.add.at(number, row, 1)
    speech = time.sum(axis=(1, 2))
    shares = time.sum(axis=1) / np.maximum(speech, 1e-9)[:, None]
    columns: dict[str, Any] = {
        "recording_uri": playable["uri"],
        "recording_id": playable["recording_id"],
        "duration_s": pa.array(lengths),
        "speech_s": pa.array(speech),
        "n_segments": pa.array(number),
    }
    if labels:
        columns["dominant_label"] = _dominant(shares, labels)
        columns["mean_confidence"] = pa.array(confidence / np.maximum(number, 1))
        columns |= {f"share_{column(label)}": pa.array(shares[:, i]) for i, label in enumerate(labels)}
        arcs = [_dominant(parts, labels) for parts in time]
        columns["arc"] = pa.array([arc.to_pylist() for arc in arcs], pa.list_(pa.string()))
    carry(columns, playable)
    return pa.table(columns)


def _dominant(shares: NDArray[np.float64], labels: Sequence[str]) -> pa.Array:
    """Name of the largest share in each row, null where there is none."""
    if not len(shares):
        return pa.array([], pa.string())
    return pa.array(
        np.array(labels, object)[shares.argmax(axis=1)], pa.string(), mask=shares.sum(axis=1) == 0
    )


def list_rejects(out: Output, planned: pa.Table, done: pa.Table, recordings: pa.Table) -> pa.Table:
    """Everything that did not become labels, each with its stage and reason."""
    uris = planned["uri"]
    rows: list[dict[str, Any]] = []

    def reject(recording_id: int, item_id: int | None, stage: str, reason: str, message: str | None) -> None:
        row = {"recording_uri": uris[recording_id].as_py(), "recording_id": recording_id, "item_id": item_id}
        rows.append(row | {"stage": stage, "reason": reason, "message": message})

    unreadable = planned.filter(planned["probe_reason"].is_valid())
    for row in unreadable.select(["recording_id", "probe_reason", "probe_message"]).to_pylist():
        reject(row["recording_id"], None, "probe", row["probe_reason"], row["probe_message"])
    failed = done.filter(done["reason"].is_valid())
    for row in failed.to_pylist():
        reject(row["recording_id"], row["item_id"], row["stage"], row["reason"], row["message"])
    named = set(failed["recording_id"].to_pylist())
    finished = set(done["item_id"].to_pylist())
    died = "its worker died each time it was tried"
    for batch in out.dataset(BUNDLES).to_batches(columns=["items"]):
        for item in batch["items"].flatten().to_pylist():
            if item["item_id"] not in finished:
                reject(item["recording_id"], item["item_id"], "run", "lost", died)
                named.add(item["recording_id"])
    for row in recordings.filter(pc.field("n_segments") == 0).to_pylist():
        if row["recording_id"] not in named:
            reject(row["recording_id"], None, "segment", "no_speech", "no speech was found in it")
    return pa.Table.from_pylist(rows, schema=REJECT)


def counts(
    out: Output,
    planned: pa.Table,
    done: pa.Table,
    recordings: pa.Table,
    rejects: pa.Table,
    labels: Sequence[str],
) -> dict[str, Any]:
    """The counts of a run for run.json; hours are of audio, ``label_shares`` are of speech time."""
    reasons = dict(sorted(Counter(rejects["reason"].to_pylist()).items()))
    inputs = out.read_table(ITEMS, ["encoder_inputs"])["encoder_inputs"] if len(done) else []
    return {
        "recordings": len(planned),
        "items": len(done),
        "unreadable": len(planned) - len(recordings),
        "segments": int(recordings["n_segments"].to_numpy().sum()),
        "audio_hours": float(done["audio_s"].to_numpy().sum()) / 3600,
        "speech_hours": float(recordings["speech_s"].to_numpy().sum()) / 3600,
        "failures": sum(count for reason, count in reasons.items() if reason not in HARMLESS),
        "rejects": reasons,
        "label_shares": label_shares(recordings, labels),
        "encoder_inputs": int(np.sum(inputs)),
    }


def label_shares(recordings: pa.Table, labels: Sequence[str]) -> dict[str, float]:
    """Share of each label in all speech, by time."""
    speech = recordings["speech_s"].to_numpy()
    shares = {label: recordings[f"share_{column(label)}"].to_numpy() for label in labels}
    return {name: float(share @ speech) / max(float(speech.sum()), 1e-9) for name, share in shares.items()}


def effective_repetition(
    out: Output, repeats: Sequence[int], sample_rate: int, window: int | None, fill: Fill, seeded: bool
) -> dict[str, dict[str, int]]:
    """How many segments each amplification a changed, and how: a → effect → count.

    A segment longer than the model's window (in samples at sample_rate, in Hz) counts by the first of its
    windows.
    """
    total: dict[str, Counter[str]] = {str(a): Counter() for a in repeats}
    written = out.dataset(ITEMS).to_batches(columns=["segments"]) if out.parquet_files(ITEMS) else ()
    for batch in written:
        spans = batch["segments"].flatten()
        samples, rates = (spans.field(name).to_numpy() for name in ("samples", "sample_rate"))
        lengths = np.ceil(samples * sample_rate / rates).astype(int)
        lengths = np.maximum(1, lengths if window is None else np.minimum(lengths, window))
        places = zip(spans.field("item_id").to_pylist(), spans.field("start_s").to_pylist(), strict=True)
        seeds = [segment_seed(*place) for place in places] if seeded else None
        for a, counted in effects(lengths.tolist(), repeats, window, fill, seeds).items():
            total[str(a)].update(counted)
    return {a: dict(counted) for a, counted in total.items()}
