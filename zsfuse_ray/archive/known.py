"""What an embedding table holds already of the segments in hand, so that it need not be computed again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zsfuse_ray.archive.embeddings import Alm, StoredEmbeddings, unpacked

pc: Any = pyarrow.compute  # it makes its functions when it is imported, out of a type checker's sight


@dataclass(frozen=True, eq=False)
class Before:
    """What a table knows of some segments, in their order; of one that it lacks, only empty values.

    there: (n,); alms: for each segment its distinct embeddings and inputs; logits: (n, S).
    """

    there: NDArray[np.bool_]
    alms: dict[str, list[tuple[NDArray, NDArray]]]
    logits: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Known:
    """A table as the source of what need not be computed again. files: with their first and last item."""

    stored: StoredEmbeddings
    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def by(cls, stored: StoredEmbeddings) -> "Known":
        """Look up which items each file of the table holds."""
        found = []
        for file in stored.files():
            with stored.out.fs.open_input_file(file) as stream:
                of_items = pq.ParquetFile(stream).read(["item_id"])["item_id"].to_numpy()
            if len(of_items):
                found.append((file, int(of_items.min()), int(of_items.max())))
        return cls(stored, tuple(found))

    def of(self, segments: Sequence[Mapping[str, Any]]) -> Before:
        """What the table knows of segments, of whom item_id and start_s tell which they are."""
        items = [segment["item_id"] for segment in segments]
        low, high = min(items, default=0), max(items, default=-1)
        files = [file for file, first, last in self.files if first <= high and low <= last]
        files = files or self.stored.files()[:1]  # for its columns
        wanted = (pc.field("item_id") >= low) & (pc.field("item_id") <= high)
        rows = ds.dataset(files, filesystem=self.stored.out.fs, format="parquet").to_table(filter=wanted)
        table, heard = unpacked(rows.combine_chunks(), self.stored.layout)
        pairs = zip(table["item_id"].to_pylist(), table["start_s"].to_pylist(), strict=True)
        row_of = {place: row for row, place in enumerate(pairs)}
        rows_of = [row_of.get((s["item_id"], s["start_s"]), -1) for s in segments]
        there = np.array([row >= 0 for row in rows_of], bool)
        alms = {key: [_own(alm, row) for row in rows_of] for key, alm in heard.alms.items()}
        logits = {}
        for key, values in heard.logits.items():
            logits[key] = np.zeros((len(segments), values.shape[1]), np.float32)
            logits[key][there] = values[[row for row in rows_of if row >= 0]]
        return Before(there, alms, logits)


def _own(alm: Alm, row: int) -> tuple[NDArray, NDArray]:
    """A segment's distinct embeddings, and which of them each repeat uses."""
    if row < 0:
        return alm.embeddings[:0], np.zeros(alm.inputs.shape[1], np.int64)
    used = alm.inputs[row]
    first = used.min()  # a segment's own lie side by side, and the first repeat uses the first of them
    return alm.embeddings[first : used.max() + 1], used - first
