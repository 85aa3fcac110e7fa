"""Encoded clips and embedded prompts → evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.experiments.clips import EncodedTable, audio_of, logits_of
from zsfuse_ray.experiments.columns import LOG_MEL, matrix
from zsfuse_ray.experiments.evidence import Alm, Evidence, Specialist
from zsfuse_ray.experiments.prompts import Banks
from zsfuse_ray.method.labels import map_labels


def gather(
    clips: pa.Table,
    table: EncodedTable | None,
    labels: tuple[str, ...],
    repeats: Sequence[int],
    text: Mapping[str, Banks],
    models: Mapping[str, Any],
    folds: NDArray[np.int64] | None = None,
) -> Evidence:
    """The evidence of encoded clips or of a table's clips.

    text: each ALM's prompts; models: each model's card. Speakers are identified by corpus and name.
    """
    alms, specialists = {}, {}
    for key, card in models.items():
        if key in text:
            alms[key] = Alm(audio_of(clips, table, key, repeats), text[key], card["scale"])
        else:
            mapping = map_labels(card["labels"], labels)
            specialists[key] = Specialist(logits_of(clips, table, key), mapping)
    place = {label: i for i, label in enumerate(labels)}
    who = zip(clips["corpus"].to_pylist(), clips["speaker"].to_pylist(), strict=True)
    return Evidence(
        labels=labels,
        targets=np.array([place[name] for name in clips["emotion"].to_pylist()]),
        speakers=np.array([f"{corpus}/{name}" if name else "" for corpus, name in who]),
        folds=np.zeros(len(clips), np.int64) if folds is None else folds,
        alms=alms,
        specialists=specialists,
        features=matrix(clips, LOG_MEL) if LOG_MEL in clips.column_names else None,
    )
