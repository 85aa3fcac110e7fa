"""The clips, models and prompts of a tuning → its evidence."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from zsfuse_ray.archive.heads import SavedHead
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.corpora.splits import folds
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.clips import EncodedTable, encode, labelled_clips
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.gather import gather
from zsfuse_ray.experiments.normalise import Readouts
from zsfuse_ray.experiments.prompts import Banks, embedded_prompts
from zsfuse_ray.runs.folder import REJECTS, Output

CLIPS, PLAN = "clips.parquet", "tune_plan.json"
_ENCODED = "encoded"  # in PLAN: CLIPS is complete
_CLIPS = "the clips"


def choosable(config: TuneConfig) -> tuple[pa.Table, EncodedTable | None]:
    """The clips to choose on, each with its fold, and the embedding table they come from (None for audio)."""
    clips, table = labelled_clips(config)
    split = clips["split"].to_pylist()
    if any(split):
        clips = clips.filter(pa.array([part in config.parts for part in split]))
        if not len(clips):
            own = ", ".join(sorted({part for part in split if part}))
            raise InputError(f"no clip is in --parts {','.join(config.parts)}; the clips are in {own}")
    if len(label_set(clips)) < 2:
        only = label_set(clips)[0]
        raise InputError(f'every clip to choose on is labelled "{only}"; at least two labels are needed')
    try:
        clips = folds(clips, config.folds)
    except InputError as error:
        hint = f" (of --parts {','.join(config.parts)})" if any(split) else ""
        raise InputError(f"{error}{hint}; lower --folds (at least 3) or add clips") from None
    numbers = len(set(clips["fold"].to_pylist()))
    if numbers < 3:
        raise InputError(f"the clips are in {numbers} folds; nested estimates need at least 3")
    return clips, table


def templates_and_models(
    config: TuneConfig,
    labels: tuple[str, ...],
    names: Mapping[str, str],
    table: EncodedTable | None,
    heads: Mapping[str, SavedHead] | None = None,
) -> tuple[dict[str, Banks], dict[str, Any], Readouts]:
    """Each ALM's templates (T, C, D) for every b, separator and number of words, averaged over words.

    Also each model's card, and how to read normalised vectors, see `embedded_prompts`.
    """
    forms = list(product(config.word_counts, config.separators))
    text, models, readouts = embedded_prompts(config, names, {_CLIPS: labels}, table, forms, heads)
    means = {
        key: {
            how: bank.reshape(len(config.templates), how.words, len(labels), -1).mean(axis=1)
            for how, bank in of_sets[_CLIPS].items()
        }
        for key, of_sets in text.items()
    }
    return means, models, readouts


def encode_once(
    config: TuneConfig,
    clips: pa.Table,
    out: Output,
    plan: Mapping[str, Any],
    own_ray: bool,
    vectors: bool = False,
) -> pa.Table:
    """The encoded clips; they and the rejects are kept in the output for resuming."""
    if (out.read_json(PLAN) or {}).get(_ENCODED):
        return out.read_table(CLIPS)
    encoded, rejects = encode(clips, config, own_ray, vectors=vectors)
    out.write_table(CLIPS, encoded)
    out.write_table(f"{REJECTS}/rejects.parquet", rejects)
    out.write_json(PLAN, {**plan, _ENCODED: True})
    return encoded


def evidence_of(
    config: TuneConfig,
    clips: pa.Table,
    table: EncodedTable | None,
    labels: tuple[str, ...],
    text: Mapping[str, Banks],
    models: Mapping[str, Any],
    readouts: Readouts | None = None,
    heads: Mapping[str, SavedHead] | None = None,
) -> Evidence:
    """The evidence of encoded clips in their folds; InputError for fewer than 3 folds or 2 labels."""
    numbers, fold = np.unique(clips["fold"].to_numpy(), return_inverse=True)
    if len(numbers) < 3 or len(label_set(clips)) < 2:
        raise InputError("the readable clips have only one label, or are in fewer than 3 folds")
    return gather(clips, table, labels, config.audio_repeats, text, models, fold, readouts, heads)
