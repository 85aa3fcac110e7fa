"""Labelled segments of an embedding table: what ``train --from-table`` fits on, without audio."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.normalise import SPEAKER, Normalise, groups_of
from zsfuse_ray.archive.table import EncodedTable
from zsfuse_ray.corpora.clips import check_classes, label_set, labelled
from zsfuse_ray.corpora.readers import read
from zsfuse_ray.errors import InputError, nearest, redact_uri
from zsfuse_ray.method.labels import canonical
from zsfuse_ray.method.normalise import normalised

log = logging.getLogger(__name__)

_EXACT_S = 0.005  # times of a manifest that has been through a spreadsheet have few digits
_FITTED = (None, "train", "dev")  # splits: test clips are for measuring


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The n labelled segments of a table.

    rows: (n,) their rows in the table, ascending; emotions: (n,) canonical names, or the user's own; groups:
    (n,) the speaker of each, or the recording where none is named; by: what most groups are.
    """

    table: EncodedTable
    rows: NDArray[np.intp]
    emotions: tuple[str, ...]
    groups: NDArray[np.str_]
    by: Literal["speaker", "recording"]

    @property
    def labels(self) -> tuple[str, ...]:
        """Their emotions: known ones in the order of ``method.labels``, then the user's own."""
        return label_set(pa.table({"emotion": pa.array(self.emotions, pa.string())}))

    def only(self, labels: Sequence[str]) -> "LabelledRows":
        """The segments with one of these labels; InputError for a label without segments, or a single one."""
        wanted = [canonical(label) for label in labels]
        if unknown := next((label for label in wanted if label not in self.labels), None):
            raise InputError(f'no segment is labelled "{unknown}"{nearest(unknown, self.labels)}')
        if len(set(wanted)) < 2:
            raise InputError(f"--labels {','.join(labels)}: at least two labels are needed")
        kept = np.array([emotion in wanted for emotion in self.emotions])
        emotions = tuple(emotion for emotion in self.emotions if emotion in wanted)
        return replace(self, rows=self.rows[kept], emotions=emotions, groups=self.groups[kept])

    def targets(self, labels: Sequence[str]) -> NDArray[np.intp]:
        """The place of each segment's emotion in a label set that has all of them, (n,)."""
        place = {canonical(label): n for n, label in reversed([*enumerate(labels)])}
        return np.array([place[emotion] for emotion in self.emotions], np.intp)

    def logits(self, key: str) -> NDArray[np.float32]:
        """Logits (n, S) of a specialist over its own labels, as encoded."""
        return self.table.logits(key)[self.rows]

    def vectors(self, key: str, normalise: Normalise = "none") -> NDArray[np.floating]:
        """Vectors (n, V) of a specialist, normalised by the statistics of all segments, as score does.

        normalise: as it labels, not "auto". The table must have been read with its vectors; InputError if the
        specialist has none.
        """
        vectors = self.table.vectors.get(key)
        if vectors is None:
            raise InputError(
                f"{self.table.uri}: the vectors of {self.table.models[key]['model']} are not accessible"
            )
        if normalise == "none":
            return vectors[self.rows]
        return normalised(vectors, groups_of(self.table.segments, normalise))[self.rows]

    def embeddings(self, key: str, repeats: Sequence[int]) -> NDArray[np.float32]:
        """Normalised embeddings (n, len(repeats), dim) of an ALM; InputError for a repeat that it lacks."""
        return self.table.audio(repeats, key)[self.rows]


def labelled_rows(table: EncodedTable, manifest: str | None) -> LabelledRows:
    """The segments of a table that a manifest labels, or without one those of the table's column emotion.

    Clips in split test are left out. InputError without labels, and for a single one.
    """
    if manifest is None:
        source, emotions, speakers = _of_table(table)
    else:
        source, emotions, speakers = _of_manifest(table, manifest)
    rows = np.array(sorted(emotions), np.intp)
    found = tuple(emotions[row] for row in rows)
    check_classes(pa.table({"emotion": pa.array(found, pa.string())}), source)
    uris = table.segments["recording_uri"].to_pylist()
    own = [speakers.get(row) for row in rows]
    groups = [
        f"speaker {who}" if who else f"recording {uris[row]}" for row, who in zip(rows, own, strict=True)
    ]
    by = "speaker" if 2 * sum(map(bool, own)) > len(own) else "recording"
    return LabelledRows(table, rows, found, np.array(groups), by)


def _of_table(table: EncodedTable) -> tuple[str, dict[int, str], dict[int, str | None]]:
    """Emotions and speakers of the segments of a table embedded from a labelled manifest."""
    source, names = f"--from-table {table.uri}", table.segments.column_names
    if "emotion" not in names:
        raise InputError(
            f"{source}: its archive was no manifest with a column emotion; name labelled segments with "
            "--train"
        )
    given = table.segments["emotion"].to_pylist()
    there = [row for row, emotion in enumerate(given) if emotion not in (None, "")]
    if not there:
        raise InputError(f"{source}: no segment has an emotion")
    kept = table.segments.rename_columns({"recording_uri": "uri"}).take(pa.array(there, pa.int64()))
    clips = labelled(kept, source)
    emotions, speakers = {}, {}
    for row, clip in zip(there, clips.select(["emotion", "speaker", "split"]).to_pylist(), strict=True):
        if clip["split"] in _FITTED:
            emotions[row], speakers[row] = clip["emotion"], clip["speaker"]
    return source, emotions, speakers


def _of_manifest(table: EncodedTable, manifest: str) -> tuple[str, dict[int, str], dict[int, str | None]]:
    """Emotions and speakers of the segments that the stretches of a manifest label; logs what matches none.

    A stretch labels the segment with exactly its times, whatever longer stretches say, else those of which it
    covers more than half. A segment with two different labels is left out.
    """
    clips = read(manifest)
    source = f"--train {redact_uri(manifest)}"
    clips = clips.select(["uri", "start_s", "end_s", "emotion", "speaker", "split"])
    wanted = [clip for clip in clips.to_pylist() if clip["split"] in _FITTED]
    segments = _Segments.of(table)
    names: dict[int, dict[bool, set[str]]] = {}
    speakers: dict[int, str | None] = segments.speakers
    unmatched = []
    for clip in wanted:
        hits, exact = segments.covered_by(clip)
        if not len(hits):
            unmatched.append(clip)
        for row, is_exact in zip(hits.tolist(), exact.tolist(), strict=True):
            names.setdefault(row, {True: set(), False: set()})[is_exact].add(clip["emotion"])
            speakers[row] = clip["speaker"] or speakers.get(row)
    decided = {row: of[True] or of[False] for row, of in names.items()}
    contradicted = [row for row, own in decided.items() if len(own) > 1]
    if unmatched:
        log.warning(
            f"warning: {len(unmatched)} of {len(wanted)} rows of {redact_uri(manifest)} match no segment; "
            f"the first: {_shown(unmatched[0])}"
        )
    if contradicted:
        first = segments.row(contradicted[0])
        log.warning(
            f"warning: {len(contradicted)} segments are labelled twice, differently, and left out; "
            f"the first: {_shown(first)}, {' and '.join(sorted(decided[contradicted[0]]))}"
        )
    emotions = {row: next(iter(own)) for row, own in decided.items() if len(own) == 1}
    if not emotions:
        raise InputError(f"{source}: none of its {len(wanted)} rows labels a segment of {table.uri}")
    return source, emotions, {row: speakers.get(row) for row in emotions}


@dataclass(frozen=True, eq=False)
class _Segments:
    """Start and end of the table's segments in seconds, (n,); rows: of each recording, by its URI."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    rows: dict[str, NDArray[np.intp]]
    uris: list[str]
    speakers: dict[int, str | None]

    @classmethod
    def of(cls, table: EncodedTable) -> "_Segments":
        segments = table.segments
        start, end = (segments[name].to_numpy() for name in ("start_s", "end_s"))
        uris = segments["recording_uri"].to_pylist()
        rows: dict[str, list[int]] = {}
        for row, uri in enumerate(uris):
            rows.setdefault(uri, []).append(row)
        of_table = segments[SPEAKER].to_pylist() if SPEAKER in segments.column_names else []
        places = {uri: np.array(own, np.intp) for uri, own in rows.items()}
        return cls(start, end, places, uris, {n: str(who) for n, who in enumerate(of_table) if who})

    def row(self, row: int) -> dict[str, Any]:
        """URI and times of a segment."""
        return {"uri": self.uris[row], "start_s": self.start[row], "end_s": self.end[row]}

    def covered_by(self, clip: Mapping[str, Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The segment with exactly a clip's times (True), else those of which it covers more than half."""
        rows = self.rows.get(redact_uri(clip["uri"]), np.empty(0, np.intp))
        start, end = self.start[rows], self.end[rows]
        first = -np.inf if clip["start_s"] is None else clip["start_s"]
        last = np.inf if clip["end_s"] is None else clip["end_s"]
        covered = np.minimum(end, last) - np.maximum(start, first) > (end - start) / 2
        exact = (np.abs(start - first) < _EXACT_S) & (np.abs(end - last) < _EXACT_S)
        chosen = exact if exact.any() else covered
        return rows[chosen], exact[chosen]


def _shown(clip: Mapping[str, Any]) -> str:
    times: Iterable[float | None] = (clip["start_s"], clip["end_s"])
    slice_s = " to ".join("" if time is None else f"{time:.2f}" for time in times).strip()
    return f"{redact_uri(clip['uri'])}{f' {slice_s} s' if slice_s != 'to' else ''}"
