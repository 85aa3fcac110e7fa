"""Summaries of a part: one row per recording, one row per reject, and counts that can be summed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.schemas import segment_seed
from zsfuse_ray.audio.outages import PASSING
from zsfuse_ray.audio.rates import resampled_length
from zsfuse_ray.method.amplify import Fill, effects
from zsfuse_ray.method.labels import column

pc: Any = pyarrow.compute

ARC_PARTS = 10  # equal parts of a recording, each with its dominant label

# Reasons that are not failures: no data was lost.
HARMLESS = ("no_speech", "not_a_recording", "not_a_file")

REJECT = pa.schema(
    [
        ("item_id", pa.int64()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)


@dataclass(frozen=True)
class Repetition:
    """Parameters of the effect of repeated audio on an ALM; window in samples at its rate."""

    audio_repeats: tuple[int, ...]
    sample_rate: int
    window: int | None
    fill: Fill
    seeded: bool

    def effects(self, segments: pa.Table) -> dict[str, dict[str, int]]:
        """Number of segments by audio repeat and its effect: a → effect → count.

        segments: rows of item_id, start_s, samples and sample_rate. For a segment longer than the window, the
        effect on its first window counts.
        """
        sizes = list(zip(segments["samples"].to_pylist(), segments["sample_rate"].to_pylist(), strict=True))
        length = {(n, rate): max(1, resampled_length(n, rate, self.sample_rate)) for n, rate in set(sizes)}
        lengths = [length[size] if self.window is None else min(length[size], self.window) for size in sizes]
        seeds = None
        if self.seeded:
            places = zip(segments["item_id"].to_pylist(), segments["start_s"].to_pylist(), strict=True)
            seeds = [segment_seed(*place) for place in places]
        counts = effects(lengths, self.audio_repeats, self.window, self.fill, seeds)
        return {str(a): counted for a, counted in counts.items()}


def summarise_recordings(
    recordings: pa.Table, outcomes: pa.Table, segments: pa.Table, labels: Sequence[str]
) -> pa.Table:
    """One row per recording that could be opened: its summary, and its emotion arc if there are labels.

    recordings: planned ones, by id; outcomes: OUTCOME rows of their items; segments: all their segments.
    """
    playable = recordings.filter(recordings["probe_reason"].is_null())
    ids = playable["recording_id"].to_numpy()
    begins = pc.fill_null(playable["start_s"], 0.0).to_numpy()
    lengths = np.zeros(len(ids))
    np.add.at(
        lengths, np.searchsorted(ids, outcomes["recording_id"].to_numpy()), outcomes["audio_s"].to_numpy()
    )
    row = np.searchsorted(ids, segments["recording_id"].to_numpy())
    start, end = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    middle = (start + end) / 2 - begins[row]
    part = np.clip(ARC_PARTS * middle / np.maximum(lengths[row], 1e-9), 0, ARC_PARTS - 1).astype(int)
    label = np.zeros(len(row), np.int64)
    if labels:
        label = pc.index_in(segments["label"], pa.array(labels, pa.string())).to_numpy().astype(np.int64)
    # seconds of speech: (recordings, parts of the arc, labels)
    time = np.zeros((len(ids), ARC_PARTS, max(1, len(labels))))
    np.add.at(time, (row, part, label), end - start)
    number = np.bincount(row, minlength=len(ids))
    speech = time.sum(axis=(1, 2))
    columns: dict[str, Any] = {
        **_identity(playable),
        "start_s": pa.array(begins),
        "end_s": pc.coalesce(playable["end_s"], pa.array(begins + lengths)),
        "duration_s": pa.array(lengths),
        "speech_s": pa.array(speech),
        "n_segments": pa.array(number),
    }
    if labels:
        shares = time.sum(axis=1) / np.maximum(speech, 1e-9)[:, None]
        confidence = np.bincount(row, segments["confidence"].to_numpy().astype(float), minlength=len(ids))
        columns["dominant_label"] = _dominant(shares, labels)
        columns["mean_confidence"] = pa.array(confidence / np.maximum(number, 1))
        columns |= {f"share_{column(name)}": pa.array(shares[:, i]) for i, name in enumerate(labels)}
        arcs = _dominant(time.reshape(-1, len(labels)), labels)
        ends = pa.array(ARC_PARTS * np.arange(len(ids) + 1), pa.int32())
        columns["arc"] = pa.ListArray.from_arrays(ends, arcs)
    notes = _notes(outcomes)
    columns["audio_note"] = pa.array([notes.get(number) for number in ids.tolist()], pa.string())
    carry(columns, playable)
    return pa.table(columns)


def _identity(recordings: pa.Table) -> dict[str, Any]:
    """The columns that distinguish the rows of a manifest; start_s and end_s are null but for a slice."""
    names = ("recording_id", "start_s", "end_s")
    return {"recording_uri": recordings["uri"], **{name: recordings[name] for name in names}}


def _notes(outcomes: pa.Table) -> dict[int, str]:
    """What was done to the audio of recordings, by id: the messages of items that did not fail."""
    notes: dict[int, set[str]] = {}
    noted = pc.and_(outcomes["reason"].is_null(), outcomes["message"].is_valid())
    for row in outcomes.filter(noted).to_pylist():
        notes.setdefault(row["recording_id"], set()).add(row["message"])
    return {number: "; ".join(sorted(found)) for number, found in notes.items()}


def _dominant(shares: NDArray[np.float64], labels: Sequence[str]) -> pa.Array:
    """Label with the largest share in each row, null if all are 0."""
    best = pa.array(shares.argmax(axis=1), mask=shares.sum(axis=1) == 0)
    return pa.array(labels, pa.string()).take(best)


def list_rejects(
    recordings: pa.Table,
    planned: pa.Table,
    outcomes: pa.Table,
    summary: pa.Table,
    unread: Mapping[int, str] | None = None,
) -> pa.Table:
    """Recordings and items that gave no segments, each with its stage and reason.

    Columns: those of `_identity`, REJECT and a manifest's own.

    planned: item_id and recording_id of all items; outcomes: of those that were processed; summary: result
    of `summarise_recordings`; unread: why the transcripts of recordings, by id, could not be read.
    """
    rows: list[dict[str, Any]] = []

    def reject(recording_id: int, item_id: int | None, stage: str, reason: str, message: str | None) -> None:
        row = {"recording_id": recording_id, "item_id": item_id, "stage": stage, "reason": reason}
        rows.append(row | {"message": message})

    unreadable = recordings.filter(recordings["probe_reason"].is_valid())
    for row in unreadable.select(["recording_id", "probe_reason", "probe_message"]).to_pylist():
        reject(row["recording_id"], None, "probe", row["probe_reason"], row["probe_message"])
    failed = outcomes.filter(outcomes["reason"].is_valid()).sort_by("item_id")
    for row in failed.to_pylist():
        reject(row["recording_id"], row["item_id"], row["stage"], row["reason"], row["message"])
    named = set(failed["recording_id"].to_pylist())
    lost = planned.filter(pc.invert(pc.is_in(planned["item_id"], outcomes["item_id"].combine_chunks())))
    for row in lost.to_pylist():
        died = "its worker died on every attempt"
        reject(row["recording_id"], row["item_id"], "run", "lost", died)
        named.add(row["recording_id"])
    for row in summary.filter(pc.field("n_segments") == 0).select(["recording_id"]).to_pylist():
        if row["recording_id"] not in named:
            reject(row["recording_id"], None, "segment", "no_speech", "no speech found")
    for recording_id, message in (unread or {}).items():
        reject(recording_id, None, "transcript", "unreadable", message)
    ids = pa.array([row.pop("recording_id") for row in rows], pa.int64())
    source = recordings.take(pc.index_in(ids, recordings["recording_id"].combine_chunks()))
    columns = _identity(source)
    table = pa.Table.from_pylist(rows, schema=REJECT)
    columns |= {name: table[name] for name in REJECT.names}
    carry(columns, source)
    return pa.table(columns)


def to_try_again(rejects: pa.Table) -> list[int]:
    """Ids of recordings whose failure may end by itself; one that was never there is not among them."""
    passing = pc.is_in(rejects["reason"], pa.array(PASSING))
    never_there = pc.and_(pc.equal(rejects["stage"], "probe"), pc.equal(rejects["reason"], "not_found"))
    return sorted(set(rejects.filter(pc.and_not(passing, never_there))["recording_id"].to_pylist()))


def part_counts(
    recordings: pa.Table,
    outcomes: pa.Table,
    summary: pa.Table,
    rejects: pa.Table,
    labels: Sequence[str],
    encoder_inputs: int,
) -> dict[str, Any]:
    """The counts of a part, summed over its recordings; label_s: seconds of speech by label."""
    reasons = dict(sorted(Counter(rejects["reason"].to_pylist()).items()))
    speech = summary["speech_s"].to_numpy()
    return {
        "recordings": len(recordings),
        "items": len(outcomes),
        "unreadable": len(recordings) - len(summary),
        "segments": int(summary["n_segments"].to_numpy().sum()),
        "audio_s": float(outcomes["audio_s"].to_numpy().sum()),
        "speech_s": float(speech.sum()),
        "failures": sum(count for reason, count in reasons.items() if reason not in HARMLESS),
        "rejects": reasons,
        "audio_notes": dict(Counter(summary["audio_note"].drop_null().to_pylist())),
        "label_s": {name: float(summary[f"share_{column(name)}"].to_numpy() @ speech) for name in labels},
        "encoder_inputs": encoder_inputs,
    }


def confidence_counts(segments: pa.Table, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Number of segments by label and confidence in whole percent: label → percent → count."""
    if not labels:
        return {}
    which = pc.index_in(segments["label"], pa.array(labels, pa.string())).to_numpy()
    percents = np.rint(100 * segments["confidence"].to_numpy()).astype(np.int64)
    table = np.bincount(101 * which + percents, minlength=101 * len(labels)).reshape(-1, 101)
    return {
        label: {str(percent): int(row[percent]) for percent in np.flatnonzero(row)}
        for label, row in zip(labels, table, strict=True)
    }


def median_percent(counts: Mapping[str, int]) -> int | None:
    """The median of counted whole percents (the lower of two middle ones), None if there are none."""
    if not counts:
        return None
    percents = sorted(map(int, counts))
    totals = np.cumsum([counts[str(percent)] for percent in percents])
    return percents[int(np.searchsorted(totals, (totals[-1] + 1) // 2))]


def summed(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of nested counts, name by name."""
    total: dict[str, Any] = {}
    for counts in parts:
        for name, value in counts.items():
            if isinstance(value, Mapping):
                total[name] = summed((total.get(name, {}), value))
            else:
                total[name] = total.get(name, 0) + value
    return total


def run_counts(total: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a run for run.json, from the sum over its parts; ``label_shares`` are of speech time.

    ``median_confidence``: by label, to two digits; labels without segments are left out.
    ``specialist_outside``: mean share of the specialist's probability on its labels outside the set, if any.
    """
    speech = max(total["speech_s"], 1e-9)
    outside = {}
    if "outside_ppm" in total:
        outside["specialist_outside"] = total["outside_ppm"] / 1e6 / max(total["segments"], 1)
    names = ("recordings", "items", "unreadable", "segments")
    return {
        **{name: total[name] for name in names},
        "audio_hours": total["audio_s"] / 3600,
        "speech_hours": total["speech_s"] / 3600,
        "failures": total["failures"],
        "rejects": dict(sorted(total["rejects"].items())),
        "audio_notes": dict(sorted(total.get("audio_notes", {}).items())),
        "label_shares": {name: seconds / speech for name, seconds in total["label_s"].items()},
        "median_confidence": {
            name: percent / 100
            for name, counts in total.get("confidence", {}).items()
            if (percent := median_percent(counts)) is not None
        },
        **outside,
        "encoder_inputs": total["encoder_inputs"],
    }
