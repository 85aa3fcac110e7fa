"""Embeddings and logits → the same, each distinct embedding once: tiny tasks, in place of fusion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.fuse_stage import drop_broken
from zsfuse_ray.archive.rows import DECODED, ENCODED

# Rows of items/: as ENCODED, each distinct embedding once.
EMBEDDED = pa.schema(
    [
        *(DECODED.field(name) for name in ("bundle_id", "items", "segments")),
        ("embeddings", pa.large_binary()),  # (distinct inputs of all segments, dim)
        ("inputs", pa.large_binary()),  # int8 (segments, audio repeats): which of a segment's own
        *(ENCODED.field(name) for name in ("logits", "encoder_inputs")),
    ]
)


@dataclass(frozen=True)
class Layout:
    """The form of a table: its audio repeats, the sizes of what each model gives (None: no such model)."""

    audio_repeats: tuple[int, ...]
    dim: int | None
    n_logits: int | None
    dtype: str

    @classmethod
    def of(cls, models: Mapping[str, Any], kept: Mapping[str, Any]) -> "Layout":
        """The layout that the entries "models" and "embeddings" of run.json describe."""
        dim = models["alm"]["dim"] if "alm" in models else None
        n_logits = len(models["specialist"]["labels"]) if "specialist" in models else None
        return cls(tuple(kept["audio_repeats"]), dim, n_logits, kept["dtype"])


def pack(batch: pa.Table, layout: Layout) -> pa.Table:
    """ENCODED rows → EMBEDDED, without segments for which a model gave values that are not finite."""
    rows = [row | _packed(row, layout) for row in batch.to_pylist()]
    return pa.Table.from_pylist([{n: row[n] for n in EMBEDDED.names} for row in rows], schema=EMBEDDED)


def _packed(row: dict[str, Any], layout: Layout) -> dict[str, Any]:
    n, repeats = len(row["segments"]), len(layout.audio_repeats)
    values, finite = {}, np.ones(n, bool)
    sizes = {"embeddings": layout.dim and repeats * layout.dim, "logits": layout.n_logits}
    for name, size in sizes.items():
        if size is not None:
            values[name] = rows_of(row[name], np.float32, size)
            finite &= np.isfinite(values[name]).all(axis=1)
    done: dict[str, Any] = {"embeddings": None, "inputs": None, "logits": None}
    done |= {name: value[finite].tobytes() for name, value in values.items()}
    if layout.dim:
        every = values["embeddings"][finite].reshape(-1, repeats, layout.dim)
        embeddings, inputs = distinct(every)
        done |= {"embeddings": embeddings.astype(layout.dtype).tobytes(), "inputs": inputs.tobytes()}
    return done | {"segments": drop_broken(row, finite), "items": row["items"]}


def distinct(every: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Embeddings (n, A, D) → those of each clip that differ (K, D), and which of its own each a uses (n, A).

    Equal inputs were computed once and so are equal to the bit.
    """
    n, repeats, _ = every.shape
    first = np.ones((n, repeats), bool)
    inputs = np.zeros((n, repeats), np.int8)
    for a in range(1, repeats):
        inputs[:, a] = first[:, :a].sum(axis=1)
        for before in range(a):
            same = first[:, a] & (every[:, a] == every[:, before]).all(axis=1)
            inputs[same, a] = inputs[same, before]
            first[same, a] = False
    return every[first], inputs


def rows_of(content: bytes, dtype: Any, size: int) -> NDArray:
    """Rows of so many values; NumPy takes no empty buffer."""
    values = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    return values.reshape(-1, size)
