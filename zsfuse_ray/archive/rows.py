"""The rows that Ray schedules, from stage to stage: one bundle of items in, the same bundle out.

Ray Data's checkpoint loses rows where a stage fans out, so segments stay inside their bundle's row until the
tables are written.
"""

import zlib
from collections.abc import Iterable
from typing import Literal

import pyarrow as pa

ITEM = pa.struct(
    [
        ("item_id", pa.int64()),
        ("recording_id", pa.int64()),
        ("uri", pa.string()),
        ("slice_start_s", pa.float64()),  # where the manifest's slice starts in the file, else 0
        ("slice_end_s", pa.float64()),  # where it ends in the file, else null
        ("start_s", pa.float64()),  # the item, from the start of the slice
        ("end_s", pa.float64()),
        ("last", pa.bool_()),  # of its slice: it reaches to where the audio really ends
        ("exact", pa.bool_()),  # whether duration, and so end_s, is more than an estimate
    ]
)
BUNDLE = pa.schema([("bundle_id", pa.int64()), ("items", pa.list_(ITEM))])
ITEM_DONE = pa.struct(
    [
        ("item_id", pa.int64()),
        ("recording_id", pa.int64()),
        ("planned_s", pa.float64()),
        ("audio_s", pa.float64()),  # what of it there really was
        ("stage", pa.string()),  # of a failure, else null
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)
SPAN = [
    ("item_id", pa.int64()),
    ("start_s", pa.float64()),  # from the start of the file
    ("end_s", pa.float64()),
    ("speech_prob", pa.float32()),
    ("samples", pa.int64()),
    ("sample_rate", pa.int32()),  # Hz, the file's own
]
DECODED = pa.schema(
    [
        ("bundle_id", pa.int64()),
        ("items", pa.list_(ITEM_DONE)),
        ("segments", pa.list_(pa.struct(SPAN))),
        ("pcm", pa.large_binary()),  # mono int16 of all segments end to end, each at its native rate
    ]
)
ENCODED = pa.schema(
    [
        *(DECODED.field(name) for name in ("bundle_id", "items", "segments")),
        ("embeddings", pa.large_binary()),  # float32 (segments, audio repeats, dim)
        ("logits", pa.large_binary()),  # float32 (segments, specialist labels)
        ("encoder_inputs", pa.int64()),  # distinct amplified inputs the ALM heard
    ]
)
SCORED = pa.schema(
    [
        *(DECODED.field(name) for name in ("bundle_id", "items")),
        (
            "segments",
            pa.list_(
                pa.struct(
                    [
                        *SPAN,
                        ("label", pa.string()),
                        ("confidence", pa.float32()),
                        ("entropy", pa.float32()),
                        ("p", pa.list_(pa.float32())),
                        ("specialist", pa.list_(pa.float32())),
                        ("alm", pa.list_(pa.float32())),
                    ]
                )
            ),
        ),
        ("encoder_inputs", pa.int64()),
    ]
)


def column_of(key: str) -> str:
    """The column of ENCODED rows for a model: embeddings for "alm", embeddings2 for "alm2", logits …"""
    kind, number = kind_of(key), key.lstrip("abcdefghijklmnopqrstuvwxyz")
    return ("embeddings" if kind == "alm" else "logits") + number


def kind_of(key: str) -> Literal["alm", "specialist"]:
    """ "alm" or "specialist": the kind of a model from its name in tables, such as "alm2"."""
    return "alm" if key.startswith("alm") else "specialist"


def encoded_schema(keys: Iterable[str]) -> pa.Schema:
    """ENCODED, with columns for the second and further models of a kind."""
    more = [name for name in map(column_of, keys) if name not in ENCODED.names]
    return pa.schema([*ENCODED, *((name, pa.large_binary()) for name in more)])


def segment_seed(item_id: int, start_s: float) -> int:
    """A number that belongs to the segment, so that a seeded crop is the same in every run."""
    return zlib.crc32(f"{item_id} {start_s:.3f}".encode())
