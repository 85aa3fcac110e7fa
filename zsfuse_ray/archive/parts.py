"""Label one part: the bundles of a range of whole recordings → one file of each table, and its counts.

A part's file of counts is written last: if it exists, the part is done. Its name contains a hash of all that
the labels depend on, so that listing one folder shows which parts need labelling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from zsfuse_ray import __version__
from zsfuse_ray.archive.layout import LABELLED, RECORDINGS, SEGMENTS, SPEAKERS, part_file, plan_file
from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.normalise import Normalise, groups_of, normalised_rows, summed
from zsfuse_ray.archive.passes import Encoded
from zsfuse_ray.archive.plan import Part, Plan
from zsfuse_ray.archive.reading import Rows, read_part
from zsfuse_ray.archive.schemas import OUTCOME, SPAN
from zsfuse_ray.archive.speakers import WHO, summarise_speakers, who_columns
from zsfuse_ray.archive.summaries import (
    Repetition,
    confidence_counts,
    list_rejects,
    part_counts,
    summarise_recordings,
    to_try_again,
)
from zsfuse_ray.archive.texts import TEXT, Transcripts, with_texts
from zsfuse_ray.archive.whole import bundles_of
from zsfuse_ray.errors import redact_uri
from zsfuse_ray.method.labelling import Labelling, label_columns, outside_share
from zsfuse_ray.method.normalise import Sums
from zsfuse_ray.method.prior import Prior
from zsfuse_ray.runs.folder import REJECTS, Output

pc: Any = pyarrow.compute

AGAIN = "try_again"  # in a part's file of counts: recordings that a later command tries again
SEGMENTS_PER_ITEM = 1_000_000  # segment_id = item_id · this + index in the item
# The columns that locate a segment; in the segments table the label follows the first three.
PLACED = ("recording_uri", "start_s", "end_s", "speech_prob", "recording_id", "item_id", "segment_id")
BY_TIME = [("recording_id", "ascending"), ("start_s", "ascending")]


@dataclass(frozen=True, eq=False)
class LabelTask:
    """Input shared by all labelling tasks. labelling: if None, only recordings and rejects are written.

    keys: the names in encoded/ of the models ("alm", "specialist") that label; wanted: all models to read,
    with the audio repeats of an ALM; digest: a hash of everything that determines the tables.
    """

    plan: Plan
    encoded: Encoded
    out: Output
    labelling: Labelling | None
    keys: Mapping[str, str]
    wanted: Mapping[str, tuple[int, ...]]
    repetitions: Mapping[str, Repetition]  # of the ALMs whose amplification is counted
    digest: str
    normalise: Normalise = "none"
    sums: Sums | None = None  # of all speakers, unless `sums_of_parts`
    prior: Prior | None = None  # whose biases are to be fitted before the parts are labelled
    transcripts: Transcripts | None = None  # for the column text

    @property
    def sums_of_parts(self) -> bool:
        """Whether vectors are normalised by groups within recordings: themselves, or speakers of turns."""
        return self.normalise == "recording" or (self.normalise == "speaker" and self.encoded.has_turns)

    @property
    def reads_vectors(self) -> bool:
        """Whether labelling needs the specialist's vectors, which are large."""
        how = self.labelling
        return self.normalise != "none" or (how is not None and not (how.head is None and how.concat is None))


def state_name(part: Part, digest: str) -> str:
    """Name of the file with the counts of a part labelled with this digest."""
    content = f"{digest} {part.first} {part.end} {part.dropped}"
    return f"{LABELLED}/part-{part.number:06}.{sha256(content.encode()).hexdigest()[:12]}.json"


def label_part(task: LabelTask, part: Part) -> dict[str, Any]:
    """Write a part's segments, recordings and rejects; returns its counts."""
    recordings = planned_recordings(task.plan, part)
    pieces: list[pa.Table] = []
    outcomes: list[pa.Table] = [pa.schema(list(OUTCOME)).empty_table()]
    lengths: list[pa.Table] = []
    inputs, outside = 0, 0
    sums = sums_for(task, part, recordings)
    for rows in read_part(task.encoded, part, task.wanted, task.reads_vectors):
        rows = without_dropped(rows, part)
        outcomes.append(rows.items)
        inputs += rows.encoder_inputs
        piece, outside_of_piece = _flat_segments(rows, recordings, task, sums)
        pieces.append(piece)
        outside += outside_of_piece
        lengths.append(rows.segments.select(["item_id", "start_s", "samples", "sample_rate"]))
    done = pa.concat_tables(outcomes)
    nothing = _no_rows(task)
    none, _ = _flat_segments(nothing, recordings, task, None)
    segments = pa.concat_tables(pieces or [none]).sort_by(BY_TIME)
    labels = task.labelling.names if task.labelling else ()
    unread: dict[int, str] = {}
    if task.transcripts is not None:
        segments, unread = with_texts(segments, recordings, task.transcripts)
    summary = summarise_recordings(recordings, done, segments, labels)
    rejects = list_rejects(recordings, planned_items(task.plan, part), done, summary, unread)
    counts = part_counts(recordings, done, summary, rejects, labels, inputs)
    counts["confidence"] = confidence_counts(segments, labels)
    if task.labelling is not None and task.labelling.drops:
        counts["outside_ppm"] = outside
    every = pa.concat_tables(lengths) if lengths else pa.schema(list(SPAN)).empty_table()
    counts["effective_repetition"] = {key: one.effects(every) for key, one in task.repetitions.items()}
    if task.labelling is not None:
        task.out.write_table(part_file(SEGMENTS, part.number), segments)
        columns = who_columns(nothing.segments, recordings.slice(0, 0))
        if who := [name for name in columns if name in WHO]:
            task.out.write_table(part_file(SPEAKERS, part.number), summarise_speakers(segments, who, labels))
    task.out.write_table(part_file(RECORDINGS, part.number), summary)
    task.out.write_table(part_file(REJECTS, part.number), rejects)
    task.out.write_json(
        state_name(part, task.digest),
        {"versions": {"zsfuse_ray": __version__}, "counts": counts, AGAIN: to_try_again(rejects)},
    )
    return counts


def sums_for(task: LabelTask, part: Part, recordings: pa.Table) -> Sums | None:
    """The sums by which a part's vectors are normalised: those of its recordings, or of all speakers."""
    return part_sums(task, part, recordings) if task.sums_of_parts else task.sums


def part_sums(task: LabelTask, part: Part, recordings: pa.Table | None = None) -> Sums | None:
    """The sums of a part's vectors by the groups of `LabelTask.normalise`; None without segments.

    recordings: those of `planned_recordings`, if they are at hand.
    """
    recordings = planned_recordings(task.plan, part) if recordings is None else recordings
    key = task.keys["specialist"]
    found = []
    for rows in read_part(task.encoded, part, {key: task.wanted[key]}, vectors=True):
        rows = without_dropped(rows, part)
        vectors = rows.vectors[key]
        if vectors is not None and len(vectors):
            _, source = place_segments(rows, recordings)
            found.append(Sums.of(vectors, groups_of(source, task.normalise, rows.segments)))
    return summed(found)


def planned_recordings(plan: Plan, part: Part) -> pa.Table:
    """The part's recordings that are not dropped, by id, with credentials removed from all URIs."""
    within = [("recording_id", ">=", part.first), ("recording_id", "<", part.end)]
    path = plan.out.path(plan_file(part.increment, "recordings"))
    table = plan.out.read_file(path, filters=within)
    if part.dropped:
        table = table.filter(pc.invert(pc.is_in(table["recording_id"], pa.array(part.dropped, pa.int64()))))
    for place, field in enumerate(table.schema):
        is_text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if is_text and pc.any(pc.match_substring(table[place], "://")).as_py():
            clean = [None if text is None else redact_uri(text) for text in table[place].to_pylist()]
            table = table.set_column(place, field.name, pa.array(clean, field.type))
    return table.combine_chunks()


def planned_items(plan: Plan, part: Part) -> pa.Table:
    """The part's planned items that are not dropped: item_id and recording_id."""
    if not plan.increments[part.increment].bundles:
        return pa.table({"item_id": pa.array([], pa.int64()), "recording_id": pa.array([], pa.int64())})
    path = plan.out.path(plan_file(part.increment, "bundles"))
    rows = plan.out.read_file(path, columns=["items"], filters=bundles_of(part))
    flat = rows["items"].combine_chunks().flatten()
    items = pa.table({name: flat.field(name) for name in ("item_id", "recording_id")})
    return items.filter(_kept(items["recording_id"], part)) if part.dropped else items


def without_dropped(rows: Rows, part: Part) -> Rows:
    """The rows without recordings that the plan has dropped."""
    if not part.dropped:
        return rows
    items = rows.items.filter(_kept(rows.items["recording_id"], part))
    kept = pc.is_in(rows.segments["item_id"], items["item_id"].combine_chunks())
    mask = kept.to_numpy(zero_copy_only=False)
    return Rows(
        items,
        rows.segments.filter(kept),
        {key: values[mask] for key, values in rows.embeddings.items()},
        {key: values[mask] for key, values in rows.logits.items()},
        {key: values if values is None else values[mask] for key, values in rows.vectors.items()},
        rows.encoder_inputs,
    )


def _kept(recording_ids: pa.ChunkedArray, part: Part) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(recording_ids, value_set=pa.array(part.dropped, pa.int64())))


def place_segments(rows: Rows, recordings: pa.Table) -> tuple[dict[str, Any], pa.Table]:
    """The columns PLACED of all segments, those of `who_columns`, and the recording of each."""
    segments, items = rows.segments, rows.items
    # a bundle contains the items of all its segments, so both lookups always succeed
    of_item = pc.index_in(segments["item_id"], items["item_id"].combine_chunks())
    recording_ids = items["recording_id"].take(of_item)
    source = recordings.take(pc.index_in(recording_ids, recordings["recording_id"].combine_chunks()))
    item_ids = segments["item_id"].to_numpy()
    starts = np.flatnonzero(np.diff(item_ids, prepend=-1))
    place = np.arange(len(item_ids)) - np.repeat(starts, np.diff(starts, append=len(item_ids)))
    columns: dict[str, Any] = {
        **{name: segments[name] for name in ("start_s", "end_s", "speech_prob")},
        "recording_uri": source["uri"],
        "recording_id": recording_ids,
        "item_id": segments["item_id"],
        "segment_id": pa.array(item_ids * SEGMENTS_PER_ITEM + place, pa.int64()),
    }
    return {name: columns[name] for name in PLACED} | who_columns(segments, source), source


def model_outputs(
    rows: Rows, source: pa.Table, task: LabelTask, sums: Sums | None
) -> tuple[NDArray | None, NDArray | None, NDArray | None]:
    """The embeddings, logits and vectors of segments, the arguments of the functions of `method.labelling`.

    source: the recording of each segment; sums: by which vectors are normalised.
    """
    alm, specialist = task.keys.get("alm", ""), task.keys.get("specialist", "")
    vectors = rows.vectors.get(specialist)
    if task.normalise != "none" and vectors is not None:
        vectors = normalised_rows(vectors, groups_of(source, task.normalise, rows.segments), sums)
    return rows.embeddings.get(alm), rows.logits.get(specialist), vectors


def _flat_segments(
    rows: Rows, recordings: pa.Table, task: LabelTask, sums: Sums | None
) -> tuple[pa.Table, int]:
    """The segments table of some rows, and the sum of their `outside_share` in millionths.

    Integers, because sums of floats depend on the order of the rows, which depends on the run.
    """
    outside = None
    placed, source = place_segments(rows, recordings)
    columns = {name: placed.pop(name) for name in ("recording_uri", "start_s", "end_s")}
    if task.labelling is not None:
        values = model_outputs(rows, source, task, sums)
        for name, column in label_columns(task.labelling, *values).items():
            columns[name] = pa.array(column, pa.string() if column.dtype == object else None)
        outside = outside_share(task.labelling, *values[1:])
    columns |= placed
    if task.transcripts is not None:
        columns[TEXT] = pa.nulls(len(rows.segments), pa.string())  # filled when its recording is whole
    carry(columns, source)
    return pa.table(columns), 0 if outside is None else int(np.rint(1e6 * outside).sum())


def _no_rows(task: LabelTask) -> Rows:
    """The rows of a part without bundles: its empty tables still need all columns."""
    of = task.encoded.models
    embeddings, logits, vectors = {}, {}, {}
    for kind, key in task.keys.items():
        if kind == "alm":
            embeddings[key] = np.empty((0, len(task.wanted[key]), of[key]["dim"]), np.float32)
        else:
            logits[key] = np.empty((0, len(of[key]["labels"])), np.float32)
            size = of[key]["vector_dim"]
            vectors[key] = np.empty((0, size), np.float32) if size else None
    items, segments = (pa.schema(list(kind)).empty_table() for kind in (OUTCOME, SPAN))
    segments = segments.select(task.encoded.span_columns)
    return Rows(items, segments, embeddings, logits, vectors, 0)
