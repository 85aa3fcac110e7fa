"""The models of an evaluation or a tuning: their cards and the embeddings of all prompts."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import embed_bank
from zsfuse_ray.archive.heads import SavedHead
from zsfuse_ray.archive.room import where_there_is_room
from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import PromptOptions
from zsfuse_ray.config.options import build
from zsfuse_ray.experiments.clips import EncodedTable, check_revision, kind_of
from zsfuse_ray.experiments.evidence import Text
from zsfuse_ray.experiments.normalise import Readouts, normalised_keys, readouts
from zsfuse_ray.method.labels import check_coverage
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import ModelSpec, load, parse_spec

log = logging.getLogger(__name__)

Banks = dict[Text, NDArray[np.float32]]  # (P, C, D) by the form of the text


def embedded_prompts(
    config: LabelledOptions,
    models: Mapping[str, str],
    label_sets: Mapping[str, Sequence[str]],
    table: EncodedTable | None,
    forms: Sequence[tuple[int, str]],
    fitted: Mapping[str, SavedHead] | None = None,
) -> tuple[dict[str, dict[str, Banks]], dict[str, Any], Readouts]:
    """Load each model once, on a node with enough memory, and embed every prompt of every label set.

    models: by their keys in tables; label_sets: by their names in messages; forms: (words per label,
    separator of copies); fitted: heads of specialists, by their keys. P counts templates × words. Returns the
    prompts of each ALM and label set; each model's card for the result: id, revision, licence, a specialist's
    labels, number of truncated prompts per text repeat; and how to read the vectors that --normalise
    normalises. InputError if a checkpoint does not fit its family, its revision differs from the table's, a
    specialist covers too few labels of a set, or has no head for normalised vectors.
    """
    normalised = normalised_keys(
        config.normalise, {key: parse_spec(name, kind_of(key)) for key, name in models.items()}
    )
    heads: dict[str, Any] = {}
    text: dict[str, dict[str, Banks]] = {}
    cards: dict[str, Any] = {}
    for key, name in models.items():
        kind = kind_of(key)
        if table is not None and kind == "specialist" and key not in normalised:
            cards[key] = table.models[key]
        else:
            spec = parse_spec(name, kind)
            card, banks, heads[key] = where_there_is_room(_load_and_embed, spec, config, label_sets, forms)
            check_revision(table, key, card["revision"])
            cards[key] = card
            if kind == "alm":
                text[key] = banks
        if fitted and key in fitted:
            cards[key] = fitted[key].describe(cards[key])
        if kind == "specialist":
            with_alm = any(kind_of(other) == "alm" for other in models)
            _check_labels(name, cards[key]["labels"], label_sets, with_alm)
    return text, cards, readouts(normalised, cards, heads)


def _load_and_embed(
    spec: ModelSpec,
    config: PromptOptions,
    label_sets: Mapping[str, Sequence[str]],
    forms: Sequence[tuple[int, str]],
) -> tuple[dict[str, Any], dict[str, Banks], Any]:
    """The card, the prompts, and the head on pooled vectors, None for most families."""
    model = load(spec)
    card: dict[str, Any] = {"model": str(spec), "revision": model.revision, "licence": model.licence}
    card["trained_on"] = list(getattr(model, "trained_on", ()))
    card["vectors_trained_on"] = list(getattr(model, "vectors_trained_on", card["trained_on"]))
    card |= {"sample_rate": model.sample_rate, "window": model.window, "fill": model.fill}
    if not isinstance(model, AudioLanguageModel):
        facts = {"labels": model.labels, "vector_dim": model.vector_dim}
        return card | facts, {}, getattr(model, "classifier", None)
    banks: dict[str, Banks] = {name: {} for name in label_sets}
    truncated: Counter[str] = Counter()
    for words, separator in forms:
        truncated.clear()
        options = {field.name: getattr(config, field.name) for field in fields(PromptOptions)}
        options_of_form = build(PromptOptions, options | {"words": words, "separator": separator})
        for name, labels in label_sets.items():
            embeddings, cut = embed_bank(model, labels, options_of_form)
            truncated.update(cut)
            for b, bank in zip(config.text_repeats, embeddings, strict=True):
                if b > 1 or separator == forms[0][1]:  # with one copy the separator is unused
                    banks[name][Text(b, separator, words)] = bank
    card |= {"scale": model.scale, "prompts_truncated": dict(truncated)}
    return card, banks, getattr(model, "projection", None)


def _check_labels(
    name: str, own: Sequence[str], label_sets: Mapping[str, Sequence[str]], with_alm: bool = True
) -> None:
    for what, labels in label_sets.items():
        if line := check_coverage(name, own, labels, with_alm, f" of {what},"):
            log.warning(f"warning: {what}: {line}")
