"""The columns that encoding adds to a table of clips, and the table of clips that could not be encoded."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.packing import embeddings_of_bundle
from zsfuse_ray.archive.schemas import model_columns
from zsfuse_ray.errors import redact_uri

LOGITS, VECTORS, LOG_MEL = "logits", "vectors", "log_mel"
CLIP = (("uri", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64()), ("corpus", pa.string()))
REJECTS = pa.schema([*CLIP, *((name, pa.string()) for name in ("stage", "reason", "message"))])


def embedding_column(repeats: int) -> str:
    """Name of the column of ALM embeddings of the audio repeated ``repeats`` times."""
    return f"alm_a{repeats}"


def matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    """Return a FixedSizeList column as (clips, size)."""
    values = cast(pa.FixedSizeListArray, table[column].combine_chunks())
    return values.flatten().to_numpy().reshape(len(table), -1)


def encoded_clips(
    clips: pa.Table, encoded: pa.Table, repeats: Sequence[int], vectors: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Return the encoded clips, in order, with new columns; and REJECTS rows for the others,
    without secrets in their URIs.

    encoded: rows of `encoded_schema` with LOG_MEL, whose item_id are rows of clips; vectors: whether
    to keep the specialist's. A truncated clip is in both.
    """
    uris = pa.array([redact_uri(uri) for uri in clips["uri"].to_pylist()], pa.string())
    clips = clips.set_column(clips.column_names.index("uri"), "uri", uris)
    places: list[int] = []
    rejects: list[tuple[int, str, str, str]] = []
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for row in encoded.to_pylist():
        named = {item["item_id"] for item in row["items"] if item["stage"] == "encode"}  # by _failures
        values = _values(row, repeats, vectors)
        finite = np.ones(len(row["segments"]), bool)
        for array in values.values():
            finite &= np.isfinite(array).all(axis=1)
        for name, array in values.items():
            parts.setdefault(name, []).append(array[finite])
        for segment, ok in zip(row["segments"], finite, strict=True):
            if ok:
                places.append(segment["item_id"])
            elif segment["item_id"] not in named:
                message = "a model returned non-finite values"
                rejects.append((segment["item_id"], "encode", "not_finite", message))
        rejects += _failures(row)
    order = np.argsort(places, kind="stable")
    table = clips.take(pa.array(np.array(places, dtype=np.int64)[order]))
    for name, blocks in parts.items():
        values = np.concatenate(blocks)[order]
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        table = table.append_column(name, column)
    return table, _reject_table(clips, sorted(rejects))


def _values(row: dict[str, Any], repeats: Sequence[int], vectors: bool) -> dict[str, NDArray[np.float32]]:
    """The arrays (segments, size) of one row, by column."""
    n = len(row["segments"])
    values: dict[str, NDArray[np.float32]] = {}
    of_logits, of_vectors = model_columns("specialist")
    for name, column in {LOGITS: of_logits, **({VECTORS: of_vectors} if vectors else {})}.items():
        if n and row.get(column):
            values[name] = np.frombuffer(row[column], np.float16).reshape(n, -1).astype(np.float32)
    if n and row[LOG_MEL]:
        values[LOG_MEL] = np.frombuffer(row[LOG_MEL], np.float32).reshape(n, -1)
    of_embeddings, of_inputs = model_columns("alm")
    if n and row.get(of_embeddings):
        every = embeddings_of_bundle(row[of_embeddings], row[of_inputs], n)
        values |= {embedding_column(a): every[:, i] for i, a in enumerate(repeats)}
    return values


def _failures(row: dict[str, Any]) -> list[tuple[int, str, str, str]]:
    failures = []
    silent = {item["item_id"] for item in row["items"]} - {s["item_id"] for s in row["segments"]}
    for item in row["items"]:
        if item["reason"] is not None:
            failures.append((item["item_id"], item["stage"], item["reason"], item["message"]))
        elif item["item_id"] in silent:
            failures.append((item["item_id"], "decode", "no_audio", "the clip contains no audio"))
    return failures


def _reject_table(clips: pa.Table, rejects: Sequence[tuple[int, str, str, str]]) -> pa.Table:
    places = pa.array([place for place, *_ in rejects], pa.int64())
    named = zip(clips.select([name for name, _ in CLIP]).take(places).to_pylist(), rejects, strict=True)
    rows = [clip | dict(zip(REJECTS.names[len(CLIP) :], why, strict=True)) for clip, (_, *why) in named]
    return pa.Table.from_pylist(rows, schema=REJECTS)
