"""Embeddings and logits → the same, each distinct embedding once: tiny tasks, in place of fusion.

Where a table is made larger by a model or by more copies of the audio, what it holds already is put in here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.encode_stage import Hear
from zsfuse_ray.archive.fuse_stage import drop_broken
from zsfuse_ray.archive.known import Known
from zsfuse_ray.archive.layout import Layout, packed_columns
from zsfuse_ray.archive.rows import column_of, kind_of, segment_seed
from zsfuse_ray.audio.resample import resampled_length
from zsfuse_ray.method.amplify import Fill, same_as
from zsfuse_ray.models.encoding import Long, window_lengths


@dataclass(frozen=True)
class Front:
    """What an ALM hears of a segment depends on: see `amplify.same_as`."""

    sample_rate: int
    window: int | None
    fill: Fill
    long: Long
    seeded: bool

    def same_as(self, segment: Mapping[str, Any], a: int, known: Sequence[int]) -> int | None:
        """The known audio repeat of a segment that gives the model the same as a, None if none does."""
        samples = resampled_length(segment["samples"], segment["sample_rate"], self.sample_rate)
        seed = segment_seed(segment["item_id"], segment["start_s"]) if self.seeded else None
        return same_as(
            window_lengths(samples, self.window, self.long), a, known, self.window, self.fill, seed
        )


@dataclass(frozen=True)
class Pack:
    """The stage. layout: of the table to be; hear: what was computed now; known: the rest, by the table."""

    layout: Layout
    hear: Mapping[str, Hear]
    fronts: Mapping[str, Front]
    known: Known | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """ENCODED rows → those of items/, without segments of which a model said what is not finite."""
        schema = self.layout.schema
        rows = [row | self._packed(row) for row in batch.to_pylist()]
        return pa.Table.from_pylist(
            [{name: row[name] for name in schema.names} for row in rows], schema=schema
        )

    def _packed(self, row: dict[str, Any]) -> dict[str, Any]:
        segments = row["segments"]
        before = self.known.of(segments) if self.known else None
        there = np.ones(len(segments), bool) if before is None else before.there
        logits: dict[str, NDArray] = {}
        alms: dict[str, list[tuple[NDArray, NDArray] | None]] = {}
        for key, part in self.layout.parts.items():
            if kind_of(key) == "specialist":
                if key in self.hear or before is None:
                    logits[key] = rows_of(row[column_of(key)], np.float32, part.size)
                else:
                    logits[key] = before.logits[key]
                there &= np.isfinite(logits[key]).all(axis=1)
                continue
            old: Sequence[Any] = [([], [])] * len(segments)
            if before is not None and key in before.alms:
                old = before.alms[key]
            alms[key] = [
                self._merged(key, *given) for given in zip(segments, old, self._new(row, key), strict=True)
            ]
            there &= np.array([one is not None for one in alms[key]], bool)
        done = {packed_columns(key)[0]: values[there].tobytes() for key, values in logits.items()}
        for key, every in alms.items():
            kept = [one for one, ok in zip(every, there, strict=True) if ok and one]
            embeddings, inputs = packed_columns(key)
            done[embeddings] = b"".join(one.astype(self.layout.dtype).tobytes() for one, _ in kept)
            done[inputs] = b"".join(one.astype(np.int8).tobytes() for _, one in kept)
        return done | {"segments": drop_broken(row, there), "items": row["items"]}

    def _new(self, row: dict[str, Any], key: str) -> NDArray[np.float32]:
        """What was computed now, (segments, new audio repeats, dim)."""
        size, n = self.layout.parts[key].size, len(row["segments"])
        repeats = self.hear[key].audio_repeats if key in self.hear else ()
        content = row[column_of(key)] if repeats else None
        return rows_of(content, np.float32, size).reshape(n, len(repeats), size)

    def _merged(
        self, key: str, segment: Mapping[str, Any], old: tuple[Iterable, Iterable], new: NDArray[np.float32]
    ) -> tuple[NDArray, NDArray] | None:
        """A segment's distinct embeddings and inputs with what is new; None if that is not finite."""
        same: list[int | None] = []
        for value, a in zip(new, self.hear[key].audio_repeats if len(new) else (), strict=True):
            place = None
            if not np.isfinite(value).all():
                known = self.hear[key].known
                like = self.fronts[key].same_as(segment, a, known)
                if like is None:
                    return None
                place = known.index(like)
            same.append(place)
        return merge(old, new, same)


def merge(
    old: tuple[Iterable, Iterable], new: NDArray[np.float32], same: Sequence[int | None]
) -> tuple[NDArray, NDArray]:
    """Add new embeddings (A, D) of a segment to its distinct ones (K, D), and to which of them a repeat uses.

    Equal inputs were computed once and so are equal to the bit. same: for each of the new ones the place of
    a known repeat whose embedding is used instead.
    """
    embeddings, inputs = list(old[0]), list(old[1])
    for value, place in zip(new, same, strict=True):
        if place is not None:
            inputs.append(inputs[place])
            continue
        known = (i for i, one in enumerate(embeddings) if np.array_equal(one, value))
        inputs.append(next(known, len(embeddings)))
        if inputs[-1] == len(embeddings):
            embeddings.append(value)
    return np.array(embeddings), np.array(inputs)


def rows_of(content: bytes | None, dtype: Any, size: int) -> NDArray:
    """Rows of so many values; NumPy takes no empty buffer."""
    values = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    return values.reshape(-1, size)
