"""``train --from-table``: fit a head on labelled segments of an embedding table, without audio or Ray."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
import yaml
from numpy.typing import NDArray

from zsfuse_ray.archive.heads import CARD, CONFIG, WEIGHTS
from zsfuse_ray.archive.layout import RUN
from zsfuse_ray.archive.normalise import Normalise, groups_of
from zsfuse_ray.archive.table import EncodedTable, read_table
from zsfuse_ray.archive.wanted import normalise_of
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.method.few_labels import FEWEST_GROUPS, Fitted, Scaling, fit_head
from zsfuse_ray.method.labels import canonical
from zsfuse_ray.method.normalise import normalised
from zsfuse_ray.method.readout import Readout
from zsfuse_ray.models.catalog import ModelSpec, named_in_data, parse_spec, split_name
from zsfuse_ray.models.readouts import classifier_of
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.training.from_table import LabelledRows, labelled_rows

SPECIALIST = "specialist"  # its name in the table: the first, if it has several
DECIDES = ("from_table", "train", "normalise")


@dataclass(frozen=True, eq=False)
class HeadResult:
    """A saved head: its folder and config.json."""

    out: Output
    about: dict[str, Any]

    @property
    def summary(self) -> str:
        """The summary printed at the end: the labels, figures out of fold, how to use the head."""
        counts = ", ".join(f"{n} {label}" for label, n in self.about["fitted_on"]["counts"].items())
        return (
            f"a head fitted on {self.about['fitted_on']['segments']} segments ({counts}) is in "
            f"{self.out.uri}\n{measured(self.about)}\n"
            f"use:  zsfuse score --input ARCHIVE --output OUT --head {self.out.uri}"
        )


def train_head(config: TrainConfig, command: str) -> HeadResult:
    """Fit a head and write its folder. InputError for a table or labels that none can be fitted on.

    command: the command line that reproduces it, for the card.
    """
    out, names = Output.open(config.output), (CONFIG, WEIGHTS, CARD)
    claim(out, record=CONFIG, what="head", ours=names, decides=None, overwrite=config.overwrite)
    table = read_table(str(config.from_table), vectors=True)
    if SPECIALIST not in table.models:
        raise InputError(f"--from-table {table.uri} was encoded without a specialist; a head needs one")
    named = table.models[SPECIALIST]["model"]
    normalise = normalise_of(config.normalise, ModelSpec(*split_name(named)), table.table.plan.columns)
    rows = labelled_rows(table, config.train)
    labels = with_new(table.models[SPECIALIST]["labels"], rows.emotions)
    vectors, logits = rows.vectors(SPECIALIST, normalise), rows.logits(SPECIALIST)
    every = table.vectors[SPECIALIST]
    if normalise != "none":
        every = normalised(every, groups_of(table.segments, normalise))
        trusted = parse_spec(named_in_data(named, table.uri, "--normalise none, as it is not"), SPECIALIST)
        logits = Readout(classifier_of(trusted), None).logits(vectors)
    targets, chosen_from = rows.targets(labels), possible(labels, rows.emotions, labels_of_run(table))
    fitted = fit_head(labels, chosen_from, logits, vectors, targets, rows.groups, Scaling.of(every))
    about = _about(table, rows, fitted, normalise)
    about["config"] = {name: value for name, value in recorded(config).items() if name in DECIDES}
    for name in names:
        out.delete(name)
    out.write_bytes(WEIGHTS, safetensors.numpy.save({"weight": fitted.head.weight, "bias": fitted.head.bias}))
    out.write_bytes(CARD, card(about, command).encode())
    out.write_json(CONFIG, about)  # last: a folder with it is complete
    return HeadResult(out, about)


def with_new(own: Sequence[str], emotions: Sequence[str]) -> tuple[str, ...]:
    """The specialist's own labels, then those of the emotions that none of them names."""
    known = {canonical(label) for label in own}
    return (*own, *sorted(set(emotions) - known))


def possible(labels: Sequence[str], emotions: Sequence[str], offered: Sequence[str]) -> NDArray[np.bool_]:
    """Which labels could be given, (K,): those that were, and those that the labelled archive offered.

    Of several labels of the specialist for one emotion, only the first.
    """
    names, wanted = [canonical(label) for label in labels], {*emotions, *map(canonical, offered)}
    return np.array([name in wanted and names.index(name) == n for n, name in enumerate(names)])


def labels_of_run(table: EncodedTable) -> list[str]:
    """The label set of the run that labelled the table in place, which a report offers; empty without one."""
    run = table.table.plan.out.read_json(RUN)
    return list((run or {}).get("config", {}).get("labels") or ())


def _about(table: EncodedTable, rows: LabelledRows, fitted: Fitted, normalise: Normalise) -> dict[str, Any]:
    """The content of config.json."""
    facts, head = table.models[SPECIALIST], fitted.head
    counts = Counter(rows.emotions)
    return {
        "versions": versions(),
        "git": git_revision(),
        "specialist": {name: facts[name] for name in ("model", "revision", "labels", "vector_dim")},
        "licence": facts["licence"],
        "labels": list(head.labels),
        "normalise": normalise,
        "temperature": head.temperature,
        "strength": fitted.strength,
        "figures": fitted.figures,
        "fitted_on": {
            "segments": len(rows.rows),
            "counts": dict(sorted(counts.items())),
            "groups": len(set(rows.groups)),
            "by": rows.by,
        },
    }


def measured(about: Mapping[str, Any]) -> str:
    """Sentences on the figures out of fold, or on why there are none."""
    groups, by, figures = about["fitted_on"]["groups"], about["fitted_on"]["by"], about["figures"]
    if figures is None:
        return (
            f"not measured: the labels are of {groups} {by}s, fewer than {FEWEST_GROUPS}; the strength of "
            f"the pull is the usual one, {about['strength']:g}, and the temperature 1"
        )
    before, after = figures["specialist"], figures["head"]
    return (
        f"on {by}s left out of the fit ({FEWEST_GROUPS} folds of {groups}): UA {before['ua']:.1%} by the "
        f"specialist's own head, {after['ua']:.1%} by this one; NLL {before['nll']:.2f} and "
        f"{after['nll']:.2f}. Strength and temperature were chosen on the same segments"
    )


def card(about: Mapping[str, Any], command: str) -> str:
    """The Markdown of README.md."""
    own, fitted_on = about["specialist"], about["fitted_on"]
    front = {
        "license": "other" if about["licence"] else "unknown",
        **({"license_name": about["licence"]} if about["licence"] else {}),
        "tags": ["speech", "emotion", "zsfuse_ray"],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        "---",
        f"A head for the vectors of the specialist {own['model']} (revision {own['revision']}), for `--head` "
        f"of zsfuse_ray. Its licence is that of the specialist: {about['licence'] or 'not stated'}; the terms "
        "of the recordings it was fitted on may restrict it further.",
        "",
        f"- labels: {', '.join(about['labels'])}",
        f"- vectors: {own['vector_dim']}, normalised by {about['normalise']}"
        if about["normalise"] != "none"
        else f"- vectors: {own['vector_dim']}, not normalised",
        f"- fitted on: {fitted_on['segments']} segments of {fitted_on['groups']} {fitted_on['by']}s: "
        + ", ".join(f"{n} {label}" for label, n in fitted_on["counts"].items()),
        f"- strength of the pull towards the specialist's own head: {about['strength']:g}",
        f"- temperature: {about['temperature']:g}",
        "",
        measured(about).capitalize() + ". Corrections chosen because they are hard say less than a random "
        "sample on how good the labels of the whole archive are.",
        "",
        "```",
        redact(command),
        "```",
        "Made with " + ", ".join(f"{name} {number}" for name, number in about["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"
