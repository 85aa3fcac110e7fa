"""The tables of a run → what the page shows, small enough for one file."""

import base64
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa

from zsfuse_ray.archive.layout import RECORDINGS
from zsfuse_ray.method.labels import column
from zsfuse_ray.reporting.exports.labelled import LabelledRun
from zsfuse_ray.reporting.exports.names import shared_folder
from zsfuse_ray.reporting.page.checks import Checks
from zsfuse_ray.runs.folder import REJECTS

MOST_RECORDINGS, MOST_SEGMENTS = 10_000, 200_000  # in a page; of a larger archive, a random part
EXAMPLES = 5  # of each reason of rejects
BINS = 20
MOST_LETTERS = 300  # of the transcript of a segment


@dataclass(frozen=True)
class Listed:
    """The recordings that the page lists."""

    rows: pd.DataFrame
    total: int


def listed_recordings(run: LabelledRun, seed: int = 0) -> Listed:
    """Read the recordings; of more than a page holds, a random part, in the order of the tables."""
    names = [
        "recording_uri",
        "duration_s",
        "speech_s",
        "n_segments",
        "dominant_label",
        "mean_confidence",
        "arc",
    ]
    parts, total = [], 0
    random = np.random.default_rng(seed)
    kept = pd.DataFrame(columns=[*names, "_key"])
    for path in sorted(run.out.parquet_files(RECORDINGS)):
        rows = run.out.read_file(path, columns=names).to_pandas()
        total += len(rows)
        parts.append(rows.assign(_key=random.random(len(rows))))
        if sum(map(len, parts)) > MOST_RECORDINGS:
            parts = [pd.concat(parts).nsmallest(MOST_RECORDINGS, "_key")]
    kept = pd.concat(parts) if parts else kept
    kept = kept.sort_values("_key")
    reached = np.cumsum(kept["n_segments"].fillna(0).to_numpy())
    kept = kept.iloc[: int((reached <= MOST_SEGMENTS).sum())]
    return Listed(kept.sort_values(["recording_uri", "duration_s"]), total)


def page_data(run: LabelledRun, listed: Listed, checks: Checks, folder: str | None) -> dict[str, Any]:
    """Read all segments once; returns the JSON data of the page, and adds every segment to the checks.

    folder: of the page, if it is local, for relative links to local recordings.
    """
    labels = run.labels
    own = [f"p_{column(label)}" for label in run.record["config"]["labels"]]
    uris = listed.rows["recording_uri"].drop_duplicates().tolist()
    place = {uri: n for n, uri in enumerate(uris)}
    number = {label: n for n, label in enumerate(labels)}
    histogram = np.zeros(BINS, np.int64)
    pieces: dict[int, list[pd.DataFrame]] = defaultdict(list)
    for batch in run.batches():
        rows = pa.Table.from_batches([batch]).to_pandas()
        checks.add(rows)
        bins = np.minimum((rows["confidence"].to_numpy() * BINS).astype(int), BINS - 1)
        histogram += np.bincount(bins, minlength=BINS)
        rows = rows[rows["recording_uri"].isin(place.keys())]
        shown = ["recording_uri", "start_s", "end_s", "label", "confidence", *own, *run.extra_columns]
        for uri, group in rows[shown].groupby("recording_uri", sort=False):
            pieces[place[str(uri)]].append(group)
    ordered = [pd.concat(pieces[n]).sort_values("start_s") for n in range(len(uris)) if pieces.get(n)]
    segments = (
        pd.concat(ordered)
        if ordered
        else pd.DataFrame(columns=["start_s", "end_s", "label", "confidence", *own, *run.extra_columns])
    )
    counts = [sum(map(len, pieces.get(n, []))) for n in range(len(uris))]
    shared = shared_folder(uris)
    recordings: list[dict[Any, Any]] = listed.rows.drop_duplicates("recording_uri").to_dict("records")
    return {
        "labels": list(labels),
        "posteriors": len(own),
        "histogram": histogram.tolist(),
        "recordings": [
            {
                "uri": row["recording_uri"],
                "name": row["recording_uri"].removeprefix(shared),
                "link": link(row["recording_uri"], folder),
                "duration": _number(row["duration_s"]),
                "speech": _number(row["speech_s"]),
                "segments": count,
                "label": number.get(row["dominant_label"]),
                "confidence": _number(row["mean_confidence"]),
                "arc": [number.get(label) for label in (row["arc"] if row["arc"] is not None else ())],
            }
            for row, count in zip(recordings, counts, strict=True)
        ],
        "start": _packed(segments["start_s"], np.float32),
        "end": _packed(segments["end_s"], np.float32),
        "label": _packed([number[label] for label in segments["label"]], np.uint8),
        "confidence": _packed(255 * segments["confidence"], np.uint8),
        "posterior": _packed(255 * segments[own], np.uint8),
        "said": _said(segments, run.extra_columns),
    }


def _said(segments: pd.DataFrame, columns: list[str]) -> list[str]:
    """Who says what in each segment, such as "speaker ann: Good morning"; empty for a run without either."""
    if not columns:
        return []
    values = zip(*(segments[name] for name in columns), strict=True)
    return [said(dict(zip(columns, row, strict=True))) for row in values]


def said(row: Mapping[Any, Any]) -> str:
    """Return who says what in a segment, from its columns channel, speaker and text, if it has them."""
    channel, speaker, text = (row.get(name) for name in ("channel", "speaker", "text"))
    who = f"channel {channel}" if channel is not None else ""
    if isinstance(speaker, str):
        who = f"speaker {speaker}"
    what = text[:MOST_LETTERS] if isinstance(text, str) else ""
    return f"{who}: {what}" if who and what else who or what


def check_rows(
    found: list[dict[str, Any]],
    clips: dict[int, str],
    labels: tuple[str, ...],
    folder: str | None,
    extra: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The segments to check as the page's data. extra: `LabelledRun.extra_columns`."""
    return [
        {
            "uri": one["recording_uri"],
            "name": PurePosixPath(one["recording_uri"]).name,
            "link": link(one["recording_uri"], folder),
            "start": one["start_s"],
            "end": one["end_s"],
            "label": one["label"],
            "confidence": _number(one["confidence"]),
            "why": one["why"],
            "said": said({name: one.get(name) for name in extra}),
            "models": {
                kind: {label: _number(one.get(f"{kind}_{column(label)}")) for label in labels}
                for kind in ("specialist", "alm")
                if f"{kind}_{column(labels[0])}" in one
            },
            "clip": clips.get(n),
        }
        for n, one in enumerate(found)
    ]


def rejects(run: LabelledRun) -> list[dict[str, Any]]:
    """The reasons of rejects, the most common first: reason, count, examples of (name, message)."""
    counts: dict[str, int] = defaultdict(int)
    examples: dict[str, list[tuple[str, str]]] = defaultdict(list)
    names = ["recording_uri", "reason", "message"]
    for path in sorted(run.out.parquet_files(REJECTS)):
        rows = run.out.read_file(path, columns=names).to_pydict()
        for uri, reason, message in zip(*rows.values(), strict=True):
            counts[reason] += 1
            if len(examples[reason]) < EXAMPLES:
                examples[reason].append((uri, message or ""))
    order = sorted(counts, key=lambda reason: -counts[reason])
    return [{"reason": one, "count": counts[one], "examples": examples[one]} for one in order]


def link(uri: str, folder: str | None) -> str | None:
    """Return the address of a recording for a browser, None if it cannot open it."""
    if uri.startswith(("https://", "http://")):
        return uri
    if "://" in uri or not uri.startswith("/"):
        return None
    return quote(os.path.relpath(uri, folder)) if folder else f"file://{quote(uri)}"


def _packed(values: Any, kind: Any) -> str:
    """Numbers as base64, in little-endian order."""
    numbers = np.nan_to_num(np.asarray(values, np.float64))
    if kind == np.uint8:
        numbers = np.rint(numbers)
    return base64.b64encode(numbers.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
