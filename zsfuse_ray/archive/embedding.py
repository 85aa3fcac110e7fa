"""Hear every labelled clip once: a table of clips → the same table with what each model makes of them.

One pass over the audio, with the decoder and the encoders of the main job. What comes after (prompts, fusion,
choosing, figures) is arithmetic on this table.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import ray.exceptions
import torch
from numpy.typing import NDArray
from ray.data import TaskPoolStrategy

from zsfuse_ray.archive.describe import embed_bank, hearing, model_specs
from zsfuse_ray.archive.embeddings import EmbeddingTable
from zsfuse_ray.archive.rows import BUNDLE, ENCODED
from zsfuse_ray.archive.scoring import decode_and_watch, encoded
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.statistics import log_mel_statistics
from zsfuse_ray.config.models import ModelOptions
from zsfuse_ray.corpora.clips import check_classes, check_splits, labelled
from zsfuse_ray.corpora.splits import read_split
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import UNTRAINED, load, revision_of
from zsfuse_ray.runs.cluster import Pool
from zsfuse_ray.runs.progress import start_tally

CLIPS_PER_BUNDLE = 32
# A clip is heard whole, its silent edges apart; what is longer than two hours is no clip.
WHOLE = Segmentation(vad="none", min_segment_s=0.05, max_segment_s=7200.0)
_OVERRUN_S = 3600.0

LOGITS, LOG_MEL = "logits", "log_mel"
ROW = "table_row"  # of a clip that is a segment of an embedding table
REJECTS = pa.schema([(name, pa.string()) for name in ("uri", "corpus", "stage", "reason", "message")])
_HEARD = ENCODED.append(pa.field(LOG_MEL, pa.large_binary()))


def check_models(config: ModelOptions) -> None:
    """Say which models have random weights; InputError where a checkpoint is not there or not reachable."""
    for spec in model_specs(config).values():
        if spec.checkpoint == UNTRAINED:
            print(f"UNTRAINED {spec}: random weights, its figures mean nothing", file=sys.stderr)
        else:
            revision_of(spec)


def clips_verdict(heard: int, lost: int, max_reject_rate: float) -> int:
    """Exit code: 1, with a line on stderr, where more clips could not be read than is allowed."""
    if lost <= max_reject_rate * (heard + lost):
        return 0
    print(
        f"{lost} of {heard + lost} clips could not be read (allowed are {max_reject_rate:.1%}, "
        "--max-reject-rate); reasons are in rejects/",
        file=sys.stderr,
    )
    return 1


def labelled_segments(table: EmbeddingTable, splits: str | None = None) -> pa.Table:
    """The segments of a table whose archive was labelled clips, as a table of clips, and of each its ROW.

    splits: as `load` takes it. InputError where there are no emotions, or a speaker or clip is in two splits.
    """
    source = f"--embeddings {table.stored.out.uri}"
    clips = labelled(table.segments.rename_columns({"recording_uri": "uri"}), source, "the table")
    clips = clips.append_column(ROW, pa.array(range(len(clips)), pa.int64()))
    if splits:
        clips = read_split(splits, clips)
    check_classes(clips, source)
    check_splits(clips)
    return clips


def heard_before(
    clips: pa.Table, table: EmbeddingTable, keys: Mapping[str, str], repeats: Sequence[int]
) -> pa.Table:
    """Clips of `labelled_segments` with the columns that `embed` gives, of the table's models by kind."""
    rows = clips[ROW].to_numpy()
    columns: dict[str, NDArray[np.float32]] = {}
    if "alm" in keys:
        audio = table.audio(repeats, keys["alm"])[rows]
        columns = {embedding_column(a): audio[:, i] for i, a in enumerate(repeats)}
    if "specialist" in keys:
        columns[LOGITS] = table.logits(keys["specialist"])[rows]
    for name, values in columns.items():
        clips = clips.append_column(name, fixed(values))
    return clips


def fixed(values: NDArray) -> pa.FixedSizeListArray:
    """Rows of values (n, size) as a FixedSizeList column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def embedding_column(repeats: int) -> str:
    """Name of the column of ALM embeddings of audio repeated so often."""
    return f"alm_a{repeats}"


def embed(
    clips: pa.Table,
    config: ModelOptions,
    pools: list[Pool],
    *,
    own_cores: int | None = None,
    log_mel: bool = False,
    told: Callable[[int], None] = lambda clips: None,
) -> tuple[pa.Table, pa.Table]:
    """Return the clips that could be heard, in order, with new columns; and REJECTS of what could not.

    A clip that breaks off is in both: what there is of it is heard.

    clips: uri, start_s and end_s (null: to the file's start and end), corpus, and others that are carried.
    New columns, all FixedSizeList of float32: ``embedding_column(a)`` for each of the audio repeats,
    normalised, where there is an ALM; LOGITS over the specialist's own labels, where there is one; LOG_MEL
    (``audio.statistics``) where asked for. own_cores: cores of a machine with a Ray of our own. told: called
    with the number of clips done, again and again.
    """
    rows = ray.data.from_arrow(_bundles(clips)).repartition(target_num_rows_per_block=1)
    rows = rows.map_batches(
        partial(decode_and_watch, how=WHOLE, item_s=_OVERRUN_S, tally=start_tally()),
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
        compute=TaskPoolStrategy(size=own_cores),
    )
    rows = encoded(rows, config, pools, hearing(config), keep_audio=True)
    rows = rows.map_batches(
        partial(_without_audio, log_mel=log_mel), batch_size=1, batch_format="pyarrow", zero_copy_batch=True
    )
    done: list[pa.Table] = []
    try:
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
            done.append(cast(pa.Table, batch))
            told(sum(len(items) for table in done for items in table["items"]))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, InputError) else error) from None
    return _flat(clips, pa.concat_tables(done), config.audio_repeats if config.alm != "none" else ())


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
        {"bundle_id": i, "items": items[start : start + CLIPS_PER_BUNDLE]} for i, start in enumerate(starts)
    ]
    return pa.Table.from_pylist(bundles, schema=BUNDLE)


def _without_audio(batch: pa.Table, log_mel: bool) -> pa.Table:
    """ENCODED rows with their audio → the same rows with its statistics, or without anything, instead."""
    torch.set_num_threads(1)  # tasks run side by side, one a core
    rows = []
    for row in batch.to_pylist():
        found = []
        samples = np.frombuffer(row["pcm"], np.int16)
        for segment in row["segments"] if log_mel else ():
            clip, samples = np.split(samples, [segment["samples"]])
            found.append(log_mel_statistics(clip, segment["sample_rate"]))
        row[LOG_MEL] = np.concatenate(found).tobytes() if found else b""
        rows.append({name: row[name] for name in _HEARD.names})
    return pa.Table.from_pylist(rows, schema=_HEARD)


def _flat(clips: pa.Table, heard: pa.Table, repeats: Sequence[int]) -> tuple[pa.Table, pa.Table]:
    places, rejects = [], []
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for row in heard.to_pylist():
        n = len(row["segments"])
        values = {LOGITS: row["logits"], LOG_MEL: row[LOG_MEL]}
        found = {name: np.frombuffer(v, np.float32).reshape(n, -1) for name, v in values.items() if n and v}
        if n and row["embeddings"]:
            every = np.frombuffer(row["embeddings"], np.float32).reshape(n, len(repeats), -1)
            found |= {embedding_column(a): every[:, i] for i, a in enumerate(repeats)}
        finite = (
            np.all([np.isfinite(v).all(axis=1) for v in found.values()], axis=0)
            if found
            else np.ones(n, bool)
        )
        for name, v in found.items():
            parts.setdefault(name, []).append(v[finite])
        for segment, ok in zip(row["segments"], finite, strict=True):
            if ok:
                places.append(segment["item_id"])
            else:
                message = "a model gave values that are not finite"
                rejects.append((segment["item_id"], "encode", "not_finite", message))
        silent = {item["item_id"] for item in row["items"]} - {s["item_id"] for s in row["segments"]}
        for item in row["items"]:
            if item["reason"] is not None:
                rejects.append((item["item_id"], item["stage"], item["reason"], item["message"]))
            elif item["item_id"] in silent:
                rejects.append((item["item_id"], "decode", "no_audio", "there is no audio in the clip"))
    order = np.argsort(places, kind="stable")
    table = clips.take(pa.array(np.array(places, dtype=np.int64)[order]))
    for name, blocks in parts.items():
        values = np.concatenate(blocks)[order]
        table = table.append_column(name, fixed(values))
    known = clips.select(["uri", "corpus"]).take(
        pa.array([place for place, *_ in sorted(rejects)], pa.int64())
    )
    named = zip(known.to_pylist(), sorted(rejects), strict=True)
    rows = [k | dict(zip(REJECTS.names[2:], why, strict=True)) for k, (_, *why) in named]
    return table, pa.Table.from_pylist(rows, schema=REJECTS)


def matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    """Return a FixedSizeList column of ``embed`` as (clips, size)."""
    values = cast(pa.FixedSizeListArray, table[column].combine_chunks())
    return values.flatten().to_numpy().reshape(len(table), -1)


def embed_prompts(
    config: ModelOptions, label_sets: Mapping[str, Sequence[str]]
) -> tuple[dict[str, NDArray[np.float32]], float, dict[str, Any]]:
    """Load each model once, where there is room; embed every prompt of every label set.

    Returns text embeddings by the label sets' names, each (text repeats, prompts, labels, dim), empty without
    an ALM; the ALM's scale; and about each model, by kind: id, revision, licence, labels of a specialist, how
    many prompts were cut for each text repeat. InputError where a checkpoint is not what its family expects.
    """
    try:
        return ray.get(ray.remote(num_cpus=1)(_embed_prompts).remote(config, label_sets))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def _embed_prompts(config: ModelOptions, label_sets: Mapping[str, Sequence[str]]) -> Any:
    text: dict[str, NDArray[np.float32]] = {}
    scale, about = 1.0, {}
    for kind, spec in model_specs(config).items():
        model = load(spec)
        about[kind] = {"model": str(spec), "revision": model.revision, "licence": model.licence}
        about[kind] |= {"sample_rate": model.sample_rate, "window": model.window, "fill": model.fill}
        if not isinstance(model, AudioLanguageModel):
            about[kind]["labels"] = model.labels
            continue
        scale = about[kind]["scale"] = model.scale
        truncated: Counter[str] = Counter()
        for name, labels in label_sets.items():
            text[name], cut = embed_bank(model, labels, config)
            truncated.update(cut)
        about[kind]["prompts_truncated"] = dict(truncated)
    return text, scale, about
