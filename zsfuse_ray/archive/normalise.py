"""Statistics of the specialist's vectors per recording or speaker, for ``--normalise``."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa

from zsfuse_ray.method.normalise import Sums

Normalise = Literal["auto", "none", "recording", "speaker"]  # auto is resolved before labelling
SPEAKER = "speaker"  # the manifest's column
CHANNEL = "channel"  # of segments, if channels are labelled one by one


def groups_of(recordings: pa.Table, normalise: Normalise, segments: pa.Table | None = None) -> list[str]:
    """Return the group of each recording, or of each of these segments (a row of both tables).

    A recording without a speaker is a group of its own. The manifest's speaker is that of the first channel;
    each other channel is a group of its own, and so is each speaker of the turns of a recording.
    """
    own = [f"recording {number}" for number in recordings["recording_id"].to_pylist()]
    groups = own
    if normalise == "speaker" and segments is not None and SPEAKER in segments.column_names:
        names = segments[SPEAKER].to_pylist()
        return [mine if who is None else f"{mine} {who}" for mine, who in zip(own, names, strict=True)]
    if normalise == "speaker":
        speakers = recordings[SPEAKER].to_pylist()
        groups = [
            mine if who in (None, "") else f"speaker {who}" for mine, who in zip(own, speakers, strict=True)
        ]
    if segments is None or CHANNEL not in segments.column_names:
        return groups
    channels = segments[CHANNEL].to_pylist()
    return [
        f"{mine} channel {n}" if n else group for mine, group, n in zip(own, groups, channels, strict=True)
    ]


def summed(parts: Iterable[Sums | None]) -> Sums | None:
    """Add up sums; None if there are no vectors."""
    found = [part for part in parts if part is not None and len(part.groups)]
    return Sums.total(found) if found else None


def normalised_rows(vectors: np.ndarray, groups: list[str], sums: Sums | None) -> np.ndarray:
    """Return vectors (n, V) normalised by the sums of their groups, (n,)."""
    return vectors if sums is None or not len(vectors) else sums.normalise(vectors, groups)
