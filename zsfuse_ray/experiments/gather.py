"""Encoded clips and embedded prompts → evidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.heads import SavedHead
from zsfuse_ray.experiments.clips import EncodedTable, audio_of, logits_of, vectors_of
from zsfuse_ray.experiments.columns import LOG_MEL, matrix
from zsfuse_ray.experiments.evidence import Alm, Evidence, Specialist
from zsfuse_ray.experiments.normalise import Readouts, by_speaker
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
    readouts: Readouts | None = None,
    heads: Mapping[str, SavedHead] | None = None,
) -> Evidence:
    """The evidence of encoded clips or of a table's clips.

    text: each ALM's prompts; models: each model's card; readouts: of the models that read vectors normalised
    by speaker over these clips, which are the same for any copies of the audio; heads: of specialists, by
    their keys. Speakers are identified by corpus and name.
    """
    who = zip(clips["corpus"].to_pylist(), clips["speaker"].to_pylist(), strict=True)
    speakers = np.array([f"{corpus}/{name}" if name else "" for corpus, name in who])
    readouts, heads = readouts or {}, heads or {}
    vectors = {
        trunk: by_speaker(vectors_of(clips, table, trunk), speakers.tolist())
        for trunk in {trunk for trunk, _ in readouts.values()}
    }
    alms, specialists = {}, {}
    for key, card in models.items():
        trunk, readout = readouts.get(key, ("", None))
        if key in text:
            if readout is None:
                audio = audio_of(clips, table, key, repeats)
            else:
                audio = dict.fromkeys(repeats, readout.embeddings(vectors[trunk]).astype(np.float32))
            alms[key] = Alm(audio, text[key], card["scale"])
        else:
            logits = logits_of(clips, table, key) if readout is None else readout.logits(vectors[trunk])
            if key in heads:
                own = vectors_of(clips, table, key) if readout is None else vectors[trunk]
                logits = heads[key].head.logits(logits, own)
            specialists[key] = Specialist(logits, map_labels(card["labels"], labels))
    place = {label: i for i, label in enumerate(labels)}
    return Evidence(
        labels=labels,
        targets=np.array([place[name] for name in clips["emotion"].to_pylist()]),
        speakers=speakers,
        folds=np.zeros(len(clips), np.int64) if folds is None else folds,
        alms=alms,
        specialists=specialists,
        features=matrix(clips, LOG_MEL) if LOG_MEL in clips.column_names else None,
    )
