"""Labelled clips and their encodings: from one pass over the audio, or from an embedding table.

Only this module uses the archive's decoder, encoders and tables. Everything after it (prompts, fusion,
choices, figures) is arithmetic on arrays.
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
from zsfuse_ray.archive.table import EncodedTable, key_of, open_table, read_table
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.statistics import log_mel_statistics
from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import OF_TABLE, EncoderOptions
from zsfuse_ray.corpora.clips import check_classes, check_splits, labelled, with_labels
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.splits import read_split
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.columns import LOG_MEL, LOGITS, VECTORS, embedding_column, encoded_clips, matrix
from zsfuse_ray.experiments.normalise import normalised_keys
from zsfuse_ray.models.about import Kind
from zsfuse_ray.models.catalog import UNTRAINED, ModelSpec, named_in_data, parse_spec, revision_of, split_name
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.progress import Progress
from zsfuse_ray.runs.tally import start_tally

CLIPS_PER_BUNDLE = 32
# A clip is encoded whole except for silence at its ends; two hours is the upper limit.
WHOLE = Segmentation(vad="none", min_segment_s=0.05, max_segment_s=7200.0)
_OVERRUN_S = 3600.0
log = logging.getLogger(__name__)

_ROW = "table_row"  # row of the embedding table that a clip comes from


def labelled_clips(config: LabelledOptions, vectors: bool = False) -> tuple[pa.Table, EncodedTable | None]:
    """The labelled clips of a configuration, and the embedding table they come from (None for audio).

    vectors: read those of the table's specialists even if none are normalised.

    InputError without emotion labels or clips of a requested label, if splits share a speaker or clip, or
    without speakers to normalise by.
    """
    table = None
    if config.embeddings:
        facts = open_table(config.embeddings).encoded.models
        specs = {key: ModelSpec(*split_name(one["model"])) for key, one in facts.items()}
        head = config.head is not None
        wanted = vectors or head or bool(normalised_keys(config.normalise, specs))
        table = read_table(config.embeddings, vectors=wanted)
        clips = _segments(table, config.splits)
    else:
        clips = load(config.sources, config.splits)
    if config.normalise == "speaker" and not any(clips["speaker"].to_pylist()):
        raise InputError(
            "--normalise speaker: no clip has a speaker; name them in the manifest's column speaker, or use "
            "--normalise none"
        )
    return (with_labels(clips, config.labels) if config.labels else clips), table


def _segments(table: EncodedTable, splits: str | None) -> pa.Table:
    """The segments of a table that was embedded from labelled clips, as clips with their _ROW."""
    source = f"--embeddings {table.uri}"
    clips = labelled(table.segments.rename_columns({"recording_uri": "uri"}), source, "the table")
    clips = clips.append_column(_ROW, pa.array(range(len(clips)), pa.int64()))
    if splits:
        clips = read_split(splits, clips)
    check_classes(clips, source)
    check_splits(clips)
    return clips


def table_identity(table: EncodedTable) -> bytes:
    """Bytes that identify a table; they differ for a table that was rebuilt in the same place."""
    return (
        json.dumps([table.table.plan.id, table.models], sort_keys=True, allow_nan=False).encode()
        + str(len(table.segments)).encode()
    )


def models_of(config: LabelledOptions, table: EncodedTable | None, every: bool = False) -> dict[str, str]:
    """Map each model's key in tables to its --alm or --specialist name; warns of random weights.

    For audio, the configured models. For a table, the named ones, else its first of each kind (all of them
    with ``every``). InputError for a checkpoint that is missing or unreachable, and for a model or audio
    repeats that the table lacks.
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
            log.warning(f"UNTRAINED {spec}: random weights, its results are meaningless")
        elif table is None or kind_of(key) == "alm":  # a specialist's logits are in the table
            revision_of(spec)
    return models


def check_revision(table: EncodedTable | None, key: str, revision: str | None) -> None:
    """InputError if the table was embedded with another revision of this model than the current one."""
    if table is not None and table.models[key]["revision"] != revision:
        raise InputError(
            f"{table.uri} was embedded with revision {table.models[key]['revision']} of "
            f"{table.models[key]['model']}, whose revision is now {revision}; run zsfuse embed again"
        )


def audio_of(
    clips: pa.Table, table: EncodedTable | None, key: str, repeats: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """An ALM's normalised embeddings (n, D), by copies of the audio; clips: from `encode` or from a table."""
    if table is None:
        return {a: matrix(clips, embedding_column(a)) for a in repeats}
    audio = table.audio(repeats, key)[clips[_ROW].to_numpy()]
    return {a: np.ascontiguousarray(audio[:, i]) for i, a in enumerate(repeats)}


def logits_of(clips: pa.Table, table: EncodedTable | None, key: str) -> NDArray[np.float32]:
    """A specialist's logits (n, S) over its own labels; clips as in `audio_of`."""
    return matrix(clips, LOGITS) if table is None else table.logits(key)[clips[_ROW].to_numpy()]


def vectors_of(clips: pa.Table, table: EncodedTable | None, key: str) -> NDArray[np.float32]:
    """A specialist's vectors (n, V); clips as in `audio_of`."""
    return matrix(clips, VECTORS) if table is None else table.vectors[key][clips[_ROW].to_numpy()]


def encode(
    clips: pa.Table, config: EncoderOptions, own_ray: bool, log_mel: bool = False, vectors: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Return the encoded clips, in order, with new columns; and REJECTS rows for the others.

    A truncated clip is in both: its readable part is encoded. InputError if no clip can be encoded.

    clips: uri, start_s and end_s (null: the file's start and end), corpus; other columns are carried along.
    New columns, all FixedSizeList of float32: with an ALM, ``embedding_column(a)`` for each audio repeat,
    normalised; with a specialist, LOGITS over its own labels, and with ``vectors`` its VECTORS; with
    ``log_mel``, LOG_MEL (``audio.statistics``). own_ray: whether this process started Ray on this machine.
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
    kept, rejects = encoded_clips(clips, pa.concat_tables(batches), repeats, vectors)
    if len(kept) < len(clips):
        log.info(f"{len(clips) - len(kept)} of {len(clips):,} clips could not be read")
    if not len(kept):
        raise InputError(f"none of the clips could be read; first error: {rejects['message'][0].as_py()}")
    return kept, rejects


def _bundles(clips: pa.Table) -> pa.Table:
    items = []
    for n, row in enumerate(clips.select(["uri", "start_s", "end_s"]).to_pylist()):
        begin = row["start_s"] or 0.0
        # without end_s the item ends at the end of the audio
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
    """Encoded rows with audio → the same rows with log-mel statistics (or empty bytes) instead."""
    torch.set_num_threads(1)  # tasks run in parallel, one per core
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
    """Return 1, and log an error, if more clips were rejected than allowed; else 0.

    counts: clips "encoded" and "rejected", as in evaluation.json and tune.json.
    """
    pairs = [(each["encoded"], each["rejected"]) for each in counts]
    done, lost = (sum(values) for values in zip(*pairs, strict=True))
    if lost <= max_reject_rate * (done + lost):
        return 0
    log.error(
        f"{lost} of {done + lost} clips could not be read (--max-reject-rate allows {max_reject_rate:.1%}); "
        "reasons are in rejects/"
    )
    return 1
