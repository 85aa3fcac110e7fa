"""Stored form of the model outputs of a bundle: float16, each distinct embedding once."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LARGEST = float(np.finfo(np.float16).max)


def to_half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Values in float16: clipped to its range; values that are not finite become NaN."""
    half = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
    half[~np.isfinite(values)] = np.nan
    return half


def pack_embeddings(
    values: NDArray[np.float32], known: Sequence[Sequence[int | None]] | None = None
) -> tuple[bytes, bytes]:
    """Embeddings (n, A, dim) of n segments and A audio repeats as the two columns of `model_columns`.

    Equal inputs were encoded once, so their embeddings are bit-identical. known: for each segment and repeat,
    the index of the repeat in an earlier pass that gives the same input, None if none does.
    """
    n, repeats = values.shape[:2]
    inputs = np.zeros((n, repeats), np.int8)
    if repeats == 1 and known is None:
        return to_half(values[:, 0]).tobytes(), inputs.tobytes()
    kept: list[NDArray[np.float32]] = []
    for i, row in enumerate(values):
        own: list[NDArray[np.float32]] = []
        for a, value in enumerate(row):
            if known is not None and (place := known[i][a]) is not None:
                inputs[i, a] = -1 - place
                continue
            same = next((j for j, one in enumerate(own) if np.array_equal(one, value, equal_nan=True)), None)
            inputs[i, a] = len(own) if same is None else same
            if same is None:
                own.append(value)
        kept += own
    return to_half(np.array(kept, np.float32)).tobytes(), inputs.tobytes()


def unpack_embeddings(
    embeddings: pa.ChunkedArray, inputs: pa.ChunkedArray, dim: int, repeats: int
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """The two columns of some rows → embeddings (K, dim) and inputs (n, A), indices into them.

    A negative input -1 - j is the j-th known repeat. ValueError if the columns are inconsistent.
    """
    distinct = _matrix(embeddings, np.float16, dim)
    chosen = _matrix(inputs, np.int8, repeats).astype(np.int64)
    counts = np.maximum(chosen.max(axis=1, initial=-1) + 1, 0)
    if counts.sum() != len(distinct):
        raise ValueError(f"{len(distinct)} embeddings, expected {counts.sum()}")
    starts = np.cumsum(counts) - counts
    return distinct, np.where(chosen < 0, chosen, chosen + starts[:, None])


def embeddings_of_bundle(embeddings: bytes, inputs: bytes, segments: int) -> NDArray[np.float32]:
    """The two columns of one bundle without known repeats → (segments, A, dim), normalised."""
    chosen = np.frombuffer(inputs, np.int8).reshape(segments, -1).astype(np.int64)
    counts = chosen.max(axis=1) + 1
    distinct = np.frombuffer(embeddings, np.float16).reshape(int(counts.sum()), -1)
    return normalised(distinct)[chosen + (np.cumsum(counts) - counts)[:, None]]


def pack_values(values: NDArray[np.float32] | None) -> bytes | None:
    """Logits or vectors (n, size) as a column of `model_columns`."""
    return None if values is None else to_half(values).tobytes()


def unpack_values(column: pa.ChunkedArray, size: int) -> NDArray[np.float32]:
    """The inverse of `pack_values`, for some rows → (n, size)."""
    return _matrix(column, np.float16, size).astype(np.float32)


def normalised(embeddings: NDArray) -> NDArray[np.float32]:
    """Embeddings in float32, scaled to length 1, which rounding to float16 has changed."""
    values = embeddings.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def _matrix(column: pa.ChunkedArray, dtype: type, size: int) -> NDArray:
    content = b"".join(value for value in column.to_pylist() if value)
    values = np.frombuffer(content, dtype)
    if len(values) % max(size, 1):
        raise ValueError(f"{len(values)} values, not a multiple of {size}")
    return values.reshape(-1, size)
