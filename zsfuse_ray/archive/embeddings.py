"""The embedding table: what the models made of every segment, a row each, to be scored again and again.

Of each ALM ("alm", a second one "alm2", …) ``alm_embeddings`` holds a segment's embedding of each distinct
amplified input, ``alm_inputs`` which of them each of its audio repeats uses; of each specialist
``specialist_logits`` holds the logits over its own labels. run.json says of each what it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zsfuse_ray.archive.layout import Layout, table_columns
from zsfuse_ray.archive.rows import kind_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import RUN, Output

EMBEDDINGS = "embeddings"  # in run.json: what is kept, and in which folder


@dataclass(frozen=True, eq=False)
class Alm:
    """What an ALM made of n segments: embeddings (K, D), and inputs (n, A), rows of it for each repeat."""

    embeddings: NDArray
    inputs: NDArray[np.int64]

    def audio(self, places: Sequence[int]) -> NDArray[np.float32]:
        """Normalised embeddings (n, len(places), D) of the audio repeats at these places of the model's."""
        found = self.embeddings[self.inputs[:, list(places)]]
        if found.dtype == np.float32:
            return found
        found = found.astype(np.float32)  # rounding to float16 has changed their lengths
        return found / np.linalg.norm(found, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Heard:
    """What the models made of some segments, by their names; logits: (n, S) float32 of each specialist."""

    alms: dict[str, Alm]
    logits: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """A complete embedding table, to be read in pieces."""

    out: Output
    run: dict[str, Any]
    layout: Layout

    @property
    def models(self) -> dict[str, Any]:
        """The models by their names in the table: id, revision, labels, scale, …, as in run.json."""
        return self.run["models"]

    def of_kind(self, kind: str) -> list[str]:
        """Names of its models of a kind, the first first."""
        return [key for key in self.models if kind_of(key) == kind]

    def places(self, key: str, repeats: Sequence[int]) -> tuple[int, ...]:
        """Where in an ALM's audio repeats these are; InputError for one that it lacks."""
        known = self.layout.parts[key].audio_repeats
        if missing := [a for a in repeats if a not in known]:
            raise InputError(
                f"{self.out.uri} was made without audio repeats {','.join(map(str, missing))} (it has "
                f"{','.join(map(str, sorted(known)))}); choose of these, or run embed again with them"
            )
        return tuple(known.index(a) for a in repeats)

    def files(self) -> list[str]:
        """The table's files, in order."""
        return sorted(self.out.parquet_files(self.run[EMBEDDINGS]["folder"]))

    def batches(
        self, file: str, keys: Sequence[str] | None = None, rows: int = 4096
    ) -> Iterator[tuple[pa.Table, Heard]]:
        """Pieces of one of the files, of so many rows at most: the flat columns, and what was heard.

        keys: the models to read, by default all.
        """
        chosen = Layout(
            {k: v for k, v in self.layout.parts.items() if keys is None or k in keys}, self.layout.dtype
        )
        others = {
            name for key in self.layout.parts.keys() - chosen.parts.keys() for name in table_columns(key)
        }
        with self.out.fs.open_input_file(file) as stream:
            try:
                content = pq.ParquetFile(stream)
                columns = [name for name in content.schema_arrow.names if name not in others]
                if not content.metadata.num_rows:
                    yield unpacked(content.schema_arrow.empty_table().select(columns), chosen)
                for batch in content.iter_batches(rows, columns=columns, use_threads=False):
                    yield unpacked(pa.Table.from_batches([batch]), chosen)
            except (
                KeyError,
                ValueError,
                TypeError,
                AttributeError,
            ) as error:  # pa.ArrowInvalid is a ValueError
                name = "/".join(file.rsplit("/", 2)[1:])
                raise InputError(f"{self.out.uri}/{name} is not what its run.json says: {error}") from None


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
        raise InputError(f"--embeddings {out.uri}: its folder {run[EMBEDDINGS]['folder']} is empty or gone")
    return stored


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """A whole embedding table in memory.

    segments: the flat columns, a row a segment, with a manifest's own; models: as in run.json, by name.
    """

    segments: pa.Table
    stored: StoredEmbeddings
    heard: Heard

    @property
    def models(self) -> dict[str, Any]:
        """The models by their names in the table: id, revision, labels, scale, …, as in run.json."""
        return self.stored.models

    def logits(self, key: str = "specialist") -> NDArray[np.float32]:
        """(n, S) over a specialist's own labels."""
        return self.heard.logits[key]

    def audio(self, repeats: Sequence[int], key: str = "alm") -> NDArray[np.float32]:
        """Normalised embeddings (n, len(repeats), D) of an ALM; InputError for an a that is not there."""
        return self.heard.alms[key].audio(self.stored.places(key, repeats))


def read_embeddings(uri: str) -> EmbeddingTable:
    """Read the table of a run of ``jobs/embed.py``; InputError where it is none, or incomplete."""
    stored = open_embeddings(uri)
    tables, parts = zip(*(piece for file in stored.files() for piece in stored.batches(file)), strict=True)
    alms: dict[str, Alm] = {}
    for key in stored.of_kind("alm"):
        of_pieces = [part.alms[key] for part in parts]
        starts = np.cumsum([0, *(len(one.embeddings) for one in of_pieces)])
        inputs = [one.inputs + start for one, start in zip(of_pieces, starts, strict=False)]
        alms[key] = Alm(np.concatenate([one.embeddings for one in of_pieces]), np.concatenate(inputs))
    logits = {
        key: np.concatenate([part.logits[key] for part in parts]) for key in stored.of_kind("specialist")
    }
    return EmbeddingTable(pa.concat_tables(tables, promote_options="default"), stored, Heard(alms, logits))


def unpacked(table: pa.Table, layout: Layout) -> tuple[pa.Table, Heard]:
    """A piece of the table → its flat columns, and what was heard; ValueError where it is not as it says."""
    n, alms, logits = len(table), {}, {}
    for key, part in layout.parts.items():
        if kind_of(key) == "alm":
            alms[key] = _alm(table, key, part.size, len(part.audio_repeats), layout.dtype)
            continue
        (column,) = table_columns(key)
        logits[key] = _values(table[column].combine_chunks(), part.size, "float32")
        if len(logits[key]) != n:
            raise ValueError(f"{column} has missing values")
    taken = {name for key in layout.parts for name in table_columns(key)}
    return table.select([name for name in table.column_names if name not in taken]), Heard(alms, logits)


def _alm(table: pa.Table, key: str, dim: int, repeats: int, dtype: str) -> Alm:
    of_embeddings, of_inputs = table_columns(key)
    lists = cast(pa.ListArray, table[of_embeddings].combine_chunks())
    counts = np.diff(lists.offsets.to_numpy())
    embeddings = _values(lists.flatten(), dim, dtype)
    chosen = cast(pa.ListArray, table[of_inputs].combine_chunks()).flatten().to_numpy()
    chosen = chosen.reshape(len(table), repeats).astype(np.int64)
    if len(counts) != len(table) or counts.sum() != len(embeddings):
        raise ValueError(f"{of_embeddings} has missing values")
    if ((chosen < 0) | (chosen >= counts[:, None])).any():
        raise ValueError(f"{of_inputs} names embeddings that are not there")
    return Alm(embeddings, chosen + (np.cumsum(counts) - counts)[:, None])


def _values(fixed: Any, size: int, dtype: str) -> NDArray:
    values = fixed.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    if values.dtype != dtype or not np.isfinite(values).all():
        raise ValueError(f"its values are not all finite {dtype}")
    return values
