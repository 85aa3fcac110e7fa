"""The rows between stages: one bundle of items in, the same bundle out.

Ray Data's checkpoint loses rows if a stage fans out, so segments stay inside their bundle's row until a part
is labelled.
"""

import zlib
from collections.abc import Iterable
from typing import Literal

import pyarrow as pa

from zsfuse_ray.audio.rttm import TURN

ITEM = pa.struct(
    [
        ("item_id", pa.int64()),
        ("recording_id", pa.int64()),
        ("uri", pa.string()),
        ("slice_start_s", pa.float64()),  # where the manifest's slice starts in the file, else 0
        ("slice_end_s", pa.float64()),  # where it ends in the file, else null
        ("start_s", pa.float64()),  # the item, from the start of the slice
        ("end_s", pa.float64()),
        ("last", pa.bool_()),  # last of its slice: it extends to the actual end of the audio
        ("exact", pa.bool_()),  # whether the duration, and so end_s, is exact and not an estimate
    ]
)
BUNDLE = pa.schema([("bundle_id", pa.int64()), ("part", pa.int64()), ("items", pa.list_(ITEM))])
# With --speakers: those of an item and the context of its segmentation, from the start of the file.
ITEM_WITH_TURNS = pa.struct([*ITEM, ("turns", pa.list_(TURN))])
BUNDLE_WITH_TURNS = BUNDLE.set(2, pa.field("items", pa.list_(ITEM_WITH_TURNS)))
OUTCOME = pa.struct(
    [
        ("item_id", pa.int64()),
        ("recording_id", pa.int64()),
        ("planned_s", pa.float64()),
        ("audio_s", pa.float64()),  # seconds actually decoded
        ("stage", pa.string()),  # of a failure, else null
        ("reason", pa.string()),
        ("message", pa.string()),  # of a failure; without one, what was done to the audio, if anything
    ]
)
SPAN = pa.struct(
    [
        ("item_id", pa.int64()),
        ("start_s", pa.float64()),  # from the start of the file
        ("end_s", pa.float64()),
        ("speech_prob", pa.float32()),
        ("samples", pa.int64()),
        ("sample_rate", pa.int32()),  # Hz, the file's own
        ("channel", pa.int32()),  # counted from 0; null in a mix
        ("speaker", pa.string()),  # null without --speakers, or where nobody has a turn
        ("overlap", pa.float32()),  # share of it in which others have a turn
    ]
)
DECODED = pa.schema(
    [
        ("bundle_id", pa.int64()),
        ("part", pa.int64()),
        ("items", pa.list_(OUTCOME)),
        ("segments", pa.list_(SPAN)),
        ("pcm", pa.large_binary()),  # mono int16 of all segments end to end, each at its native rate
    ]
)

Kind = Literal["alm", "specialist"]


def encoded_schema(keys: Iterable[str]) -> pa.Schema:
    """Rows of encoded/ with the outputs of these models ("alm", "specialist", "alm2", …)."""
    values = [(name, pa.large_binary()) for key in keys for name in model_columns(key)]
    first = [DECODED.field(name) for name in DECODED.names if name != "pcm"]
    return pa.schema([*first, *values, ("encoder_inputs", pa.int64())])  # distinct inputs of the ALMs


def model_columns(key: str) -> tuple[str, str]:
    """A model's columns in encoded rows, with the values of all segments of a bundle concatenated.

    ALM: the distinct embeddings of each segment, float16 (K, dim), and int8 (segments, audio repeats), the
    index of the segment's embedding for each repeat; -1 - j: the one of the j-th known repeat. Specialist:
    logits, float16 (segments, labels), and vectors, float16 (segments, vector_dim), null if the family has
    none.
    """
    return (
        (f"{key}_embeddings", f"{key}_inputs")
        if kind_of(key) == "alm"
        else (f"{key}_logits", f"{key}_vectors")
    )


def kind_of(key: str) -> Kind:
    """ "alm" or "specialist": the kind of a model from its name in tables, such as "alm2"."""
    return "alm" if key.startswith("alm") else "specialist"


def segment_seed(item_id: int, start_s: float) -> int:
    """A seed from the segment's identity, so that a seeded crop is the same in every run."""
    return zlib.crc32(f"{item_id} {start_s:.3f}".encode())
