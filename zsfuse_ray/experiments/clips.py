"""Labelled clips and their encodings: from one pass over the audio, or from an embedding table.

This module alone touches the archive: its decoder and encoders, and its tables. What comes after (prompts,
fusion, choices, figures) is arithmetic on arrays.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
import ray
import ray.exceptions
import torch
from numpy.typing import NDArray

from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.schemas import BUNDLE, kind_of
from zsfuse_ray.archive.stream import decoded, encoded
from zsfuse_ray.archive.table import EncodedTable, key_of, read_table
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.statistics import log_mel_statistics
from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import OF_TABLE, EncoderOptions
from zsfuse_ray.corpora.clips import check_classes, check_splits, labelled, with_labels
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.splits import read_split
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.columns import LOG_MEL, LOGITS, embedding_column, encoded_clips, matrix
from zsfuse_ray.models.about import Kind
from zsfuse_ray.models.catalog import UNTRAINED, named_in_data, parse_spec, revision_of
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.progress import Progress
from zsfuse_ray.runs.tally import start_tally

CLIPS_PER_BUNDLE = 32
# A clip is encoded whole but for its silent edges; what is longer than two hours is no clip.
WHOLE = Segmentation(vad="none", min_segment_s=0.05, max_segment_s=7200.0)
_OVERRUN_S = 3600.0
log = logging.getLogger(__name__)

_ROW = "table_row"  # of a clip that is a segment of an embedding table


def labelled_clips(config: LabelledOptions) -> tuple[pa.Table, EncodedTable | None]:
    """The clips that a configuration names, with their labels; and the table they are from, if it is one.

    InputError where there are no emotions, no clip of a wanted label, or a speaker or clip is in two splits.
    """
    table = None
    if config.embeddings:
        table = read_table(config.embeddings)
        clips = _segments(table, config.splits)
    else:
        clips = load(config.sources, config.splits)
    return (with_labels(clips, config.labels) if config.labels else clips), table


def _segments(table: EncodedTable, splits: str | None) -> pa.Table:
    """The segments of a table whose archive was labelled clips, as clips with their _ROW."""
    source = f"--embeddings {table.uri}"
    clips = labelled(table.segments.rename_columns({"recording_uri": "uri"}), source, "the table")
    clips = clips.append_column(_ROW, pa.array(range(len(clips)), pa.int64()))
    if splits:
        clips = read_split(splits, clips)
    check_classes(clips, source)
    check_splits(clips)
    return clips


def table_identity(table: EncodedTable) -> bytes:
    """Bytes that differ for every table, also for one that was made anew in the same place."""
    return (
        json.dumps([table.table.plan.id, table.models], sort_keys=True).encode()
        + str(len(table.segments)).encode()
    )


def models_of(config: LabelledOptions, table: EncodedTable | None, every: bool = False) -> dict[str, str]:
    """The models' own names, by their names in tables; those with random weights are named on the screen.

    From audio the configuration's. From a table those that are named, else its first of each kind, or with
    ``every`` all. InputError for a checkpoint that is missing or not reachable, a model that the table was
    made without, or audio repeats that it lacks.
    """
    models = config.models if table is None else {}
    if table is not None:
        kinds: tuple[Kind, ...] = ("alm", "specialist")
        for kind in kinds:
            wanted = getattr(config, kind)
            keys = table.of_kind(kind) if every and wanted == OF_TABLE else []
            for key in keys or filter(None, [key_of(kind, wanted, table.table)]):
                models[key] = wanted
                if wanted == OF_TABLE:
                    models[key] = named_in_data(table.models[key]["model"], table.uri, f"--{kind}")
                if kind == "alm":
                    table.table.check_repeats(key, config.audio_repeats)
    for key, name in models.items():
        spec = parse_spec(name, kind_of(key))
        if spec.checkpoint == UNTRAINED:
            log.warning(f"UNTRAINED {spec}: random weights, its figures mean nothing")
        elif table is None or kind_of(key) == "alm":  # of a specialist the table has all that is needed
            revision_of(spec)
    return models


def check_revision(table: EncodedTable | None, key: str, revision: str | None) -> None:
    """InputError where a table was made with another revision of this model than the one that is there."""
    if table is not None and table.models[key]["revision"] != revision:
        raise InputError(
            f"{table.uri} was made with revision {table.models[key]['revision']} of "
            f"{table.models[key]['model']}, which is {revision} now; embed with it first"
        )


def audio_of(
    clips: pa.Table, table: EncodedTable | None, key: str, repeats: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """An ALM's normalised embeddings (n, D) of clips of `encode` or of a table, by copies of the audio."""
    if table is None:
        return {a: matrix(clips, embedding_column(a)) for a in repeats}
    audio = table.audio(repeats, key)[clips[_ROW].to_numpy()]
    return {a: np.ascontiguousarray(audio[:, i]) for i, a in enumerate(repeats)}


def logits_of(clips: pa.Table, table: EncodedTable | None, key: str) -> NDArray[np.float32]:
    """A specialist's logits (n, S) of such clips, over its own labels."""
    return matrix(clips, LOGITS) if table is None else table.logits(key)[clips[_ROW].to_numpy()]


def encode(
    clips: pa.Table, config: EncoderOptions, own_ray: bool, log_mel: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Return the clips that could be encoded, in order, with new columns; and REJECTS of what could not.

    A clip that breaks off is in both: what there is of it is encoded. InputError where that is none.

    clips: uri, start_s and end_s (null: to the file's start and end), corpus, and others that are carried.
    New columns, all FixedSizeList of float32: ``embedding_column(a)`` for each of the audio repeats,
    normalised, where there is an ALM; LOGITS over the specialist's own labels, where there is one; LOG_MEL
    (``audio.statistics``) where asked for. own_ray: whether Ray is one of our own on this machine.
    """
    pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes())
    tasks = {
        key: ToEncode(parse_spec(name, kind_of(key)), config.audio_repeats if kind_of(key) == "alm" else ())
        for key, name in config.models.items()
    }
    rows = ray.data.from_arrow(_bundles(clips)).repartition(target_num_rows_per_block=1)
    rows = decoded(rows, WHOLE, _OVERRUN_S, cluster.cores() if own_ray else None, start_tally())
    rows = encoded(rows, config, pools, tasks, keep_audio=True)
    rows = rows.map_batches(
        partial(_without_audio, log_mel=log_mel), batch_size=1, batch_format="pyarrow", zero_copy_batch=True
    )
    batches: list[pa.Table] = []
    done, progress = 0, Progress("encoded", len(clips), "clips")
    try:
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
            batches.append(cast(pa.Table, batch))
            done += sum(len(items) for items in batches[-1]["items"])
            progress.update(done)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, InputError) else error) from None
    progress.end()
    repeats = config.audio_repeats if config.alm != "none" else ()
    kept, rejects = encoded_clips(clips, pa.concat_tables(batches), repeats)
    if len(kept) < len(clips):
        log.info(f"{len(clips) - len(kept)} of {len(clips):,} clips could not be read")
    if not len(kept):
        raise InputError(f"none of the clips could be read; the first: {rejects['message'][0].as_py()}")
    return kept, rejects


def _bundles(clips: pa.Table) -> pa.Table:
    items = []
    for n, row in enumerate(clips.select(["uri", "start_s", "end_s"]).to_pylist()):
        begin = row["start_s"] or 0.0
        # where no end is given the last item reaches to the audio's own
        length = 0.0 if row["end_s"] is None else row["end_s"] - begin
        place = {"slice_start_s": begin, "slice_end_s": row["end_s"], "start_s": 0.0, "end_s": length}
        items.append(
            {"item_id": n, "recording_id": n, "uri": row["uri"], "last": True, "exact": True} | place
        )
    starts = range(0, len(items), CLIPS_PER_BUNDLE)
    bundles = [
        {"bundle_id": i, "part": 0, "items": items[start : start + CLIPS_PER_BUNDLE]}
        for i, start in enumerate(starts)
    ]
    return pa.Table.from_pylist(bundles, schema=BUNDLE)


def _without_audio(batch: pa.Table, log_mel: bool) -> pa.Table:
    """Encoded rows with their audio → the same rows with its statistics, or without anything, instead."""
    torch.set_num_threads(1)  # tasks run side by side, one a core
    names = [name for name in batch.schema.names if name != "pcm"]
    schema = pa.schema([*(batch.schema.field(name) for name in names), (LOG_MEL, pa.large_binary())])
    rows = []
    for row in batch.to_pylist():
        statistics = []
        samples = np.frombuffer(row["pcm"], np.int16)
        for segment in row["segments"] if log_mel else ():
            clip, samples = np.split(samples, [segment["samples"]])
            statistics.append(log_mel_statistics(clip, segment["sample_rate"]))
        row[LOG_MEL] = np.concatenate(statistics).tobytes() if statistics else b""
        rows.append({name: row[name] for name in schema.names})
    return pa.Table.from_pylist(rows, schema=schema)


def exit_code(counts: Iterable[Mapping[str, int]], max_reject_rate: float) -> int:
    """Return 1, with a line on stderr, where more clips were rejected than is allowed; else 0.

    counts: clips "encoded" and "rejected", as evaluation.json and tune.json have them.
    """
    pairs = [(each["encoded"], each["rejected"]) for each in counts]
    done, lost = (sum(values) for values in zip(*pairs, strict=True))
    if lost <= max_reject_rate * (done + lost):
        return 0
    log.error(
        f"{lost} of {done + lost} clips could not be read (allowed are {max_reject_rate:.1%}, "
        "--max-reject-rate); reasons are in rejects/"
    )
    return 1
