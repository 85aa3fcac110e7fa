"""``train --task fusion --from-table``: fit the trained fusion on labelled segments of an embedding table."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from zsfuse_ray.archive.describe import load_models, make_labelling
from zsfuse_ray.archive.table import EncodedTable, key_of, read_table
from zsfuse_ray.archive.wanted import normalise_of, recorded_identity
from zsfuse_ray.config.fusion import FITTED, RECORD, ModelOf, Prompted, packed
from zsfuse_ray.config.label import LabellingOptions
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.config.options import build, recorded
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.method.concat import fit_concat
from zsfuse_ray.method.labelling import model_posteriors, zero_shot_inputs
from zsfuse_ray.method.metrics import nll, ua
from zsfuse_ray.models.catalog import ModelSpec, named_in_data, parse_spec, split_name
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.training.from_table import LabelledRows, labelled_rows
from zsfuse_ray.training.fusion_folder import CARD, claim_fusion, fusion_card

OUTER_FOLDS = 5


@dataclass(frozen=True)
class FittedFusion:
    """A saved fusion: its folder, and what fusion.json says of its fit."""

    out: Output
    about: dict[str, Any]

    @property
    def summary(self) -> str:
        """The summary printed at the end: the labels, figures out of fold, how to use the fusion."""
        on = self.about["fitted_on"]
        counts = ", ".join(f"{n} {label}" for label, n in on["counts"].items())
        return (
            f"a fusion fitted on {on['segments']} segments ({counts}) is in {self.out.uri}\n"
            f"{measured(self.about)}\n"
            f"use:  zsfuse score --embeddings {self.about['config']['from_table']} --output OUT "
            f"--fusion {self.out.uri}"
        )


@holds_output
def fit_on_table(config: TrainConfig, command: str) -> FittedFusion:
    """Fit a fusion and write its folder. InputError for a table or labels that none can be fitted on.

    command: the command line that reproduces it, for the card.
    """
    out = claim_fusion(config.output, config.overwrite)
    table = read_table(str(config.from_table), vectors=True)
    keys = {"alm": key_of("alm", config.alm or OF_TABLE, table.table), "specialist": "specialist"}
    if keys["alm"] is None or "specialist" not in table.models:
        raise InputError(f"--from-table {table.uri}: a fusion needs a specialist and an ALM in the table")
    facts = {kind: table.models[str(key)] for kind, key in keys.items()}
    if not facts["specialist"]["vector_dim"]:
        raise InputError(
            f"--from-table {table.uri}: {facts['specialist']['model']} has no accessible vectors"
        )
    rows = labelled_rows(table, config.train)
    rows = rows.only(config.labels) if config.labels else rows
    options = _options(config, table, facts, rows)
    specs = {kind: parse_spec(getattr(options, kind), kind) for kind in ("alm", "specialist")}
    if options.normalise == "none":
        del specs["specialist"]  # its vectors are in the table
    loaded = load_models(specs, {kind: kind for kind in specs}, options)
    for kind in specs:
        if loaded.facts[kind]["revision"] != facts[kind]["revision"]:
            raise InputError(f"--from-table {table.uri}: {facts[kind]['model']} has another revision now")
    labelling = make_labelling(options, facts, loaded.prompts, loaded.readout)

    vectors = rows.vectors("specialist", options.normalise)
    embeddings = rows.embeddings(str(keys["alm"]), options.audio_repeats)
    scores = zero_shot_inputs(labelling, embeddings, vectors, config.scores, config.per_prompt)
    targets, n = rows.targets(options.labels), len(options.labels)
    fusion = fit_concat(vectors, scores, targets, n, rows.groups, config.scores, config.per_prompt)
    alone = model_posteriors(labelling, embeddings, rows.logits("specialist"), vectors).given()
    figures = _left_out(vectors, scores, targets, n, rows.groups, alone)
    models = {
        kind: ModelOf(name=getattr(options, kind), identity=recorded_identity(facts[kind])) for kind in facts
    }
    about = {
        "versions": versions(),
        "git": git_revision(),
        "licence": "; ".join(dict.fromkeys(str(one["licence"] or "not stated") for one in facts.values())),
        "strength": fusion.classifier.c,
        "temperature": fusion.classifier.temperature,
        "figures": figures,
        "fitted_on": {
            "segments": len(targets),
            "counts": dict(sorted(Counter(rows.emotions).items())),
            "groups": len(set(rows.groups)),
            "by": rows.by,
        },
        "config": {name: recorded(config)[name] for name in ("from_table", "train")},
    }
    files = packed(fusion, _prompted(options), models, about)
    files[CARD] = fusion_card(about, models, options.labels, measured(about), redact(command)).encode()
    for name in (*(name for name in files if name != RECORD), RECORD):  # a folder with the record is complete
        out.write_bytes(name, files[name])
    return FittedFusion(out, about)


def _options(
    config: TrainConfig, table: EncodedTable, facts: dict[str, Any], rows: LabelledRows
) -> LabellingOptions:
    """The options of labelling that the fusion is fitted for."""
    names = {kind: named_in_data(facts[kind]["model"], table.uri, f"--{kind}") for kind in facts}
    spec = ModelSpec(*split_name(names["specialist"]))
    names["normalise"] = normalise_of(config.normalise, spec, table.table.plan.columns)
    prompts = {name: getattr(config, name) for name in FITTED if name != "labels"}
    return build(LabellingOptions, {**prompts, **names, "labels": rows.labels})


def _prompted(options: LabellingOptions) -> Prompted:
    values: dict[str, Any] = {name: getattr(options, name) for name in (*FITTED, "normalise")}
    return Prompted(**values)


def _left_out(
    vectors: NDArray,
    scores: NDArray,
    targets: NDArray[np.intp],
    n_labels: int,
    groups: NDArray[np.str_],
    alone: dict[str, NDArray[np.float64]],
) -> dict[str, dict[str, float]] | None:
    """UA and NLL of the fusion on groups left out of its fit, and of the models; None for few groups."""
    if len(set(groups)) < OUTER_FOLDS:
        return None
    fused = np.full((len(targets), n_labels), 1 / n_labels)
    for others, held in GroupKFold(OUTER_FOLDS).split(vectors, targets, groups):
        if len(set(targets[others])) >= 2:
            fitted = fit_concat(vectors[others], scores[others], targets[others], n_labels, groups[others])
            fused[held] = fitted.predict(vectors[held], scores[held])
    return {
        name: {"ua": float(ua(targets, one.argmax(axis=1), n_labels)), "nll": float(nll(one, targets))}
        for name, one in {**alone, "fusion": fused}.items()
    }


def measured(about: dict[str, Any]) -> str:
    """A sentence on the figures out of fold, or on why there are none."""
    groups, by, figures = about["fitted_on"]["groups"], about["fitted_on"]["by"], about["figures"]
    if figures is None:
        return f"not measured: the labels are of {groups} {by}s, fewer than {OUTER_FOLDS}"
    names = {"specialist": "the specialist alone", "alm": "the ALM alone", "fusion": "this fusion"}
    shown = ", ".join(f"{figures[name]['ua']:.1%} by {text}" for name, text in names.items())
    return f"UA on {by}s left out of the fit ({OUTER_FOLDS} folds of {groups}): {shown}"
