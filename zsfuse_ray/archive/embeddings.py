"""The embedding table: what the models made of every segment, a row each, to be scored again and again.

``alm_embeddings`` holds a segment's embedding of each distinct amplified input, ``alm_inputs`` which of them
each of the table's audio repeats uses, ``specialist_logits`` the logits over the specialist's own labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.output import EMBEDDINGS, RUN, Output
from zsfuse_ray.archive.pack_stage import Layout, rows_of
from zsfuse_ray.archive.tables import BY_TIME, placed
from zsfuse_ray.errors import InputError

PREPROCESSING = (
    1  # counts up when the same audio gives the models another input: decoding, speech, resampling
)
ALM_EMBEDDINGS, ALM_INPUTS, LOGITS = "alm_embeddings", "alm_inputs", "specialist_logits"

# A dictionary of floats is a waste of time; the groups bound what a reader holds.
PARQUET = {"use_dictionary": ["recording_uri"], "row_group_size": 8192}


def flatten(rows: pa.Table, planned: pa.Table, layout: Layout) -> pa.Table:
    """EMBEDDED rows → the embedding table, by recording and time."""
    columns, _, source = placed(rows, planned)
    if layout.dim:
        embeddings = rows_of(_joined(rows["embeddings"]), layout.dtype, layout.dim)
        inputs = rows_of(_joined(rows["inputs"]), np.int8, len(layout.audio_repeats))
        ends = np.cumsum(inputs.max(axis=1, initial=-1).astype(np.int64) + 1)
        columns[ALM_EMBEDDINGS] = _lists(ends, _fixed(embeddings))
        columns[ALM_INPUTS] = _lists(
            inputs.shape[1] * np.arange(1, len(inputs) + 1), pa.array(inputs.ravel())
        )
    if layout.n_logits:
        columns[LOGITS] = _fixed(rows_of(_joined(rows["logits"]), np.float32, layout.n_logits))
    carry(columns, source)
    return pa.table(columns).sort_by(BY_TIME)


def _joined(column: pa.ChunkedArray) -> bytes:
    return b"".join(column.to_pylist())


def _fixed(values: NDArray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _lists(ends: NDArray[np.int64], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), values)


@dataclass(frozen=True, eq=False)
class Heard:
    """What the models made of some segments, as the table keeps it.

    embeddings: (K, D), inputs: (n, A) rows of it for each audio repeat of the table, both None without an
    ALM; logits: (n, S) float32, None without a specialist.
    """

    embeddings: NDArray | None
    inputs: NDArray[np.int64] | None
    logits: NDArray[np.float32] | None

    def audio(self, places: Sequence[int]) -> NDArray[np.float32] | None:
        """Normalised embeddings (n, len(places), D) of the audio repeats at these places of the table's."""
        if self.embeddings is None or self.inputs is None:
            return None
        found = self.embeddings[self.inputs[:, list(places)]]
        if found.dtype == np.float32:
            return found
        found = found.astype(np.float32)  # rounding to float16 has changed their lengths
        return found / np.linalg.norm(found, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """A complete embedding table, to be read in pieces."""

    out: Output
    run: dict[str, Any]
    layout: Layout

    @property
    def models(self) -> dict[str, Any]:
        """The models by "alm" and "specialist": id, revision, labels, scale, as in run.json."""
        return self.run["models"]

    def places(self, repeats: Sequence[int]) -> tuple[int, ...]:
        """Where in the table's audio repeats these are; InputError for one that it lacks."""
        known = self.layout.audio_repeats
        if missing := [a for a in repeats if a not in known]:
            raise InputError(
                f"{self.out.uri} was made without audio repeats {','.join(map(str, missing))} (it has "
                f"{','.join(map(str, known))}); choose of these, or embed with --audio-repeats"
            )
        return tuple(known.index(a) for a in repeats)

    def files(self) -> list[str]:
        """The table's files, in order."""
        return sorted(self.out.parquet_files(EMBEDDINGS))

    def batches(self, file: str, rows: int = 4096) -> Iterator[tuple[pa.Table, Heard]]:
        """Pieces of one of the files, of so many rows at most: the other columns, and what was heard."""
        with self.out.fs.open_input_file(file) as stream:
            try:
                content = pq.ParquetFile(stream)
                if not content.metadata.num_rows:
                    yield _unpacked(content.schema_arrow.empty_table(), self.layout)
                for batch in content.iter_batches(rows, use_threads=False):
                    yield _unpacked(pa.Table.from_batches([batch]), self.layout)
            except (
                KeyError,
                ValueError,
                TypeError,
                AttributeError,
            ) as error:  # pa.ArrowInvalid is a ValueError
                name = file.rsplit("/", 1)[1]
                raise InputError(
                    f"{self.out.uri}/{EMBEDDINGS}/{name} is not what its run.json says: {error}"
                ) from None


def open_embeddings(uri: str) -> StoredEmbeddings:
    """Open the table of a run of ``jobs/embed.py``; InputError where it is none, or incomplete."""
    out = Output.open(uri, "--embeddings")
    try:
        run = out.read_json(RUN)
    except InputError:
        run = None  # another program's
    if run is None or EMBEDDINGS not in run:
        raise InputError(f"--embeddings {out.uri}: no embedding table there; jobs/embed.py makes one")
    if run.get("status") != "complete":
        raise InputError(
            f"--embeddings {out.uri} is incomplete; run the same jobs/embed.py again, it goes on from there"
        )
    try:
        stored = StoredEmbeddings(out, run, Layout.of(run["models"], run[EMBEDDINGS]))
    except (KeyError, TypeError):
        raise InputError(f"--embeddings {out.uri}: its run.json is not of this version; embed anew") from None
    if not stored.files():
        raise InputError(f"--embeddings {out.uri}: its folder {EMBEDDINGS} is empty or gone")
    return stored


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """A whole embedding table in memory.

    segments: the flat columns, a row a segment, with a manifest's own; models: as in run.json, by "alm" and
    "specialist"; audio_repeats: every a that `audio` takes.
    """

    segments: pa.Table
    stored: StoredEmbeddings
    heard: Heard

    @property
    def models(self) -> dict[str, Any]:
        """The models by "alm" and "specialist": id, revision, labels, scale, as in run.json."""
        return self.stored.models

    @property
    def audio_repeats(self) -> tuple[int, ...]:
        """Every a the table was made with."""
        return self.stored.layout.audio_repeats

    @property
    def logits(self) -> NDArray[np.float32] | None:
        """(n, S) over the specialist's own labels, None without a specialist."""
        return self.heard.logits

    def audio(self, repeats: Sequence[int]) -> NDArray[np.float32]:
        """Normalised embeddings (n, len(repeats), D); InputError for an a, or an ALM, that is not there."""
        audio = self.heard.audio(self.stored.places(repeats))
        if audio is None:
            raise InputError(f"{self.stored.out.uri} was made without an audio-language model")
        return audio


def read_embeddings(uri: str) -> EmbeddingTable:
    """Read the table of a run of ``jobs/embed.py``; InputError where it is none, or incomplete."""
    stored = open_embeddings(uri)
    tables, parts, used = [], [], 0
    for file in stored.files():
        for table, heard in stored.batches(file):
            if heard.embeddings is not None and heard.inputs is not None:
                parts.append(Heard(heard.embeddings, heard.inputs + used, heard.logits))
                used += len(heard.embeddings)
            else:
                parts.append(heard)
            tables.append(table)

    def whole(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    joined = pa.concat_tables(tables, promote_options="default")
    return EmbeddingTable(joined, stored, Heard(whole("embeddings"), whole("inputs"), whole("logits")))


def _unpacked(table: pa.Table, layout: Layout) -> tuple[pa.Table, Heard]:
    """A piece of the table → its flat columns, and what was heard; ValueError where it is not as it says."""
    n = len(table)
    embeddings = inputs = logits = None
    if layout.dim:
        lists = cast(pa.ListArray, table[ALM_EMBEDDINGS].combine_chunks())
        counts = np.diff(lists.offsets.to_numpy())
        embeddings = _values(lists.flatten(), layout.dim, layout.dtype)
        chosen = cast(pa.ListArray, table[ALM_INPUTS].combine_chunks()).flatten().to_numpy()
        chosen = chosen.reshape(n, len(layout.audio_repeats)).astype(np.int64)
        if len(counts) != n or counts.sum() != len(embeddings):
            raise ValueError(f"{ALM_EMBEDDINGS} has missing values")
        if ((chosen < 0) | (chosen >= counts[:, None])).any():
            raise ValueError(f"{ALM_INPUTS} names embeddings that are not there")
        inputs = chosen + (np.cumsum(counts) - counts)[:, None]
    if layout.n_logits:
        logits = _values(table[LOGITS].combine_chunks(), layout.n_logits, "float32")
        if len(logits) != n:
            raise ValueError(f"{LOGITS} has missing values")
    flat = [name for name in table.column_names if name not in (ALM_EMBEDDINGS, ALM_INPUTS, LOGITS)]
    return table.select(flat), Heard(embeddings, inputs, logits)


def _values(fixed: Any, size: int, dtype: str) -> NDArray:
    values = fixed.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    if values.dtype != dtype or not np.isfinite(values).all():
        raise ValueError(f"its values are not all finite {dtype}")
    return values
