"""Where a tuning's clips and what models say of them come from: audio, heard once, or an embedding table."""

import sys
from collections.abc import Mapping
from dataclasses import fields as fields_of
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from zsfuse_ray.archive.embedding import (
    LOGITS,
    ROW,
    check_models,
    embed,
    embed_prompts,
    embedding_column,
    labelled_segments,
    matrix,
)
from zsfuse_ray.archive.embeddings import EmbeddingTable, read_embeddings
from zsfuse_ray.archive.rescore import key_of
from zsfuse_ray.archive.rows import kind_of
from zsfuse_ray.config.models import OF_TABLE, ModelOptions
from zsfuse_ray.config.options import build
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.corpora.clips import label_set, with_labels
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.splits import folds
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import specialist_on_labels
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.models.about import Kind
from zsfuse_ray.models.catalog import named_in_data
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.tuning.evidence import Alm, Evidence, Specialist, Text

CLIPS, PLAN = "clips.parquet", "tune_plan.json"
_ALL = "all"


def choosable(config: TuneConfig) -> tuple[pa.Table, EmbeddingTable | None]:
    """The clips to choose on, each with its fold, and the table they are of if it is one."""
    table = None
    if config.embeddings:
        table = read_embeddings(config.embeddings)
        clips = labelled_segments(table, config.splits)
    else:
        clips = load(config.sources, config.splits)
    if config.labels:
        clips = with_labels(clips, config.labels)
    split = clips["split"].to_pylist()
    if any(split):
        clips = clips.filter(pa.array([part in config.parts for part in split]))
        if not len(clips):
            raise InputError(
                f"no clip is in --parts {','.join(config.parts)}; the clips' own are {_parts(split)}"
            )
    if len(label_set(clips)) < 2:
        only = label_set(clips)[0]
        raise InputError(f'every clip to choose on is labelled "{only}"; at least two labels are needed')
    try:
        clips = folds(clips, config.folds)
    except InputError as error:
        hint = f" (of --parts {','.join(config.parts)})" if any(split) else ""
        raise InputError(f"{error}{hint}; lower --folds (at least 3), or name more clips") from None
    numbers = len(set(clips["fold"].to_pylist()))
    if numbers < 3:
        raise InputError(f"clips are in {numbers} folds; nested choice needs at least 3")
    return clips, table


def _parts(split: list[str | None]) -> str:
    return ", ".join(sorted({part for part in split if part}))


def models_of(config: TuneConfig, table: EmbeddingTable | None) -> dict[str, str]:
    """What is searched over: the models as one names them, by their names in the table.

    Of audio the configuration's, of a table all of its, or those that are named. InputError, before any is
    loaded, for one that is not there, or for audio repeats that the table lacks.
    """
    if table is None:
        check_models(config)
        return config.models
    found: dict[str, str] = {}
    kinds: tuple[Kind, ...] = ("alm", "specialist")
    for kind in kinds:
        if (wanted := getattr(config, kind)) == OF_TABLE:
            found |= {
                key: named_in_data(table.models[key]["model"], table.stored.out.uri, f"--{kind}")
                for key in table.stored.of_kind(kind)
            }
        elif key := key_of(kind, wanted, table.stored):
            found[key] = wanted
    alms = [key for key in found if kind_of(key) == "alm"]
    if not alms:
        raise InputError(f"{table.stored.out.uri} was made without an audio-language model: nothing to tune")
    for key in alms:
        table.stored.places(key, config.audio_repeats)
        check_models(_asked(config, found[key], "none"))
    return found


def prompts(
    config: TuneConfig, labels: tuple[str, ...], names: Mapping[str, str], table: EmbeddingTable | None
) -> tuple[dict[str, dict[Text, NDArray[np.float32]]], dict[str, Any]]:
    """Each ALM's prompts, every b, separator and number of words as (T, C, D); about each model.

    InputError where no label is known to a specialist, or an ALM is another than the table's.
    """
    text: dict[str, dict[Text, NDArray[np.float32]]] = {}
    about: dict[str, Any] = {}
    for key, name in names.items():
        if kind_of(key) == "specialist":
            if table is not None:
                about[key] = table.models[key]
            continue
        text[key] = {}
        for words, separator in product(config.word_counts, config.separators):
            asked = _asked(config, name, "none" if table else config.specialist, words, separator)
            banks, _, models = embed_prompts(asked, {_ALL: labels})
            about |= {"specialist": models["specialist"]} if "specialist" in models else {}
            about[key] = models["alm"]
            for b, bank in zip(config.text_repeats, banks[_ALL], strict=True):
                # without copies a separator separates nothing
                if b > 1 or separator == config.separators[0]:
                    of_template = bank.reshape(len(config.templates), words, len(labels), -1)
                    text[key][Text(b, separator, words)] = of_template.mean(axis=1)
        if table is not None and about[key]["revision"] != table.models[key]["revision"]:
            made = table.models[key]["revision"]
            raise InputError(f"{table.stored.out.uri} was made with another revision of {name}: {made}")
    for key, of_model in about.items():
        if kind_of(key) == "specialist" and not map_labels(of_model["labels"], labels).any():
            raise InputError(
                f"--specialist {names[key]} knows none of the labels {', '.join(labels)}; "
                f"its own are {', '.join(of_model['labels'])}"
            )
    return text, {key: about[key] for key in names}


def _asked(
    config: TuneConfig, alm: str, specialist: str, words: int = 1, separator: str = " "
) -> ModelOptions:
    values = {field.name: getattr(config, field.name) for field in fields_of(ModelOptions)}
    asked = {"alm": alm, "specialist": specialist, "words": words, "separator": separator}
    return build(ModelOptions, values | asked)


def hear(config: TuneConfig, clips: pa.Table, out: Output, plan: dict[str, Any], own_ray: bool) -> pa.Table:
    """What the models say of the clips; kept, with what could not be read, for when the job goes on."""
    if (out.read_json(PLAN) or {}).get("heard"):
        return out.read_table(CLIPS)
    pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes())
    print(f"hearing {len(clips):,} clips", file=sys.stderr)
    heard, rejects = embed(clips, config, pools, own_cores=cluster.cores() if own_ray else None)
    print(f"heard {len(heard):,}, {len(clips) - len(heard)} could not be read", file=sys.stderr)
    if not len(heard):
        raise InputError(f"none of the clips could be read; the first: {rejects['message'][0].as_py()}")
    out.write_table(CLIPS, heard)
    out.write_table(f"{REJECTS}/rejects.parquet", rejects)
    out.write_json(PLAN, plan | {"heard": True})
    return heard


def gather(
    config: TuneConfig,
    heard: pa.Table,
    labels: tuple[str, ...],
    text: Mapping[str, dict[Text, NDArray[np.float32]]],
    models: Mapping[str, Any],
    table: EmbeddingTable | None,
) -> Evidence:
    """All that there is to choose on."""
    numbers, fold = np.unique(heard["fold"].to_numpy(), return_inverse=True)
    targets = np.array([labels.index(name) for name in heard["emotion"].to_pylist()])
    if len(numbers) < 3 or len(set(targets)) < 2:
        raise InputError("the clips that could be read are of one label alone, or in fewer than 3 folds")
    who = zip(heard["corpus"].to_pylist(), heard["speaker"].to_pylist(), strict=True)
    rows = None if table is None else heard[ROW].to_numpy()
    alms, specialists = {}, {}
    for key, about in models.items():
        if kind_of(key) == "alm":
            audio = {a: _audio(heard, table, key, a, rows) for a in config.audio_repeats}
            alms[key] = Alm(audio, text[key], about["scale"])
            continue
        mapping = map_labels(about["labels"], labels)
        logits = matrix(heard, LOGITS) if table is None else table.logits(key)[rows]
        posterior = specialist_on_labels(softmax(logits), mapping)
        specialists[key] = Specialist(posterior, np.any(mapping, axis=0))
    return Evidence(
        labels=labels,
        targets=targets,
        speakers=np.array([f"{corpus}/{name}" if name else "" for corpus, name in who]),
        folds=fold,
        alms=alms,
        specialists=specialists,
        objective=config.objective,
    )


def _audio(heard: pa.Table, table: EmbeddingTable | None, key: str, a: int, rows: Any) -> NDArray[np.float32]:
    """An ALM's embeddings (n, D) of the clips with a copies."""
    if table is None:
        return matrix(heard, embedding_column(a))
    return table.audio((a,), key)[rows, 0]
