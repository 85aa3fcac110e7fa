"""What an embedding table holds of which model, and in which columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from zsfuse_ray.archive.rows import DECODED, ENCODED, column_of, kind_of


@dataclass(frozen=True)
class Part:
    """One model's: the size of an embedding, and of which audio repeats; or the number of logits."""

    size: int
    audio_repeats: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The parts of a table by their models' names ("alm", "alm2", "specialist", …); dtype of embeddings."""

    parts: dict[str, Part]
    dtype: str

    @classmethod
    def of(cls, models: Mapping[str, Any], kept: Mapping[str, Any]) -> "Layout":
        """The layout that the entries "models" and "embeddings" of run.json describe."""
        parts = {
            key: Part(about["dim"], tuple(about["audio_repeats"]))
            if kind_of(key) == "alm"
            else Part(len(about["labels"]))
            for key, about in models.items()
        }
        return cls(parts, kept["dtype"])

    @property
    def schema(self) -> pa.Schema:
        """Rows of items/: as ENCODED, each distinct embedding once."""
        of_parts = [(name, pa.large_binary()) for key in self.parts for name in packed_columns(key)]
        first = [DECODED.field(name) for name in ("bundle_id", "items", "segments")]
        return pa.schema([*first, *of_parts, ENCODED.field("encoder_inputs")])


def packed_columns(key: str) -> tuple[str, ...]:
    """A model's columns of such rows.

    Of an ALM: (distinct inputs of all segments, dim), and int8 (segments, audio repeats), which of a
    segment's own each of the repeats uses; of a specialist: float32 (segments, labels).
    """
    column = column_of(key)
    return (column, column.replace("embeddings", "inputs")) if kind_of(key) == "alm" else (column,)


def table_columns(key: str) -> tuple[str, ...]:
    """A model's columns of the table: lists of embeddings and of inputs, or logits."""
    return (f"{key}_embeddings", f"{key}_inputs") if kind_of(key) == "alm" else (f"{key}_logits",)
