"""Label an embedding table, encoded/ of another output, elsewhere: without audio or GPU."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray.exceptions

from zsfuse_ray.archive import console
from zsfuse_ray.archive.describe import is_model, make_labelling, revision_of
from zsfuse_ray.archive.encode import Spent
from zsfuse_ray.archive.label import FEW_PARTS, stale_parts
from zsfuse_ray.archive.layout import PASSES, PLAN, RUN, clear, refuse_strangers
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.passes import Encoded, check_repeats, read_passes
from zsfuse_ray.archive.plan import Plan, open_plan
from zsfuse_ray.archive.record import begin_run, end_run
from zsfuse_ray.archive.wanted import recorded_identity, repetitions, score_digest
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.config.options import build, resolved
from zsfuse_ray.config.score import DECIDED, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import Kind, parse_spec
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import Output, refuse_other_config

KINDS: tuple[Kind, ...] = ("alm", "specialist")


@dataclass(frozen=True, eq=False)
class Table:
    """An embedding table: what is encoded of an archive, with its plan."""

    plan: Plan
    encoded: Encoded

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.plan.out.uri

    @property
    def increments(self) -> list[int]:
        """Increments of its plan that hold something to encode."""
        return [n for n, increment in enumerate(self.plan.increments) if increment.bundles]

    def check_complete(self, keys: Mapping[str, str]) -> None:
        """InputError where a model ("alm", "specialist" → its name here) has not encoded all of the plan."""
        for key in keys.values():
            if any(not self.encoded.passes_of(key, n) for n in self.increments):
                raise InputError(
                    f"--embeddings {self.uri} is incomplete; run the same jobs/embed.py again, it resumes there"
                )


def open_table(uri: str) -> Table:
    """Open what ``jobs/embed.py`` or score has encoded; InputError where nothing is, or it was dropped."""
    out = Output.open(uri, "--embeddings")
    try:
        there = out.read_json(PLAN) is not None and out.read_json(PASSES) is not None
    except InputError:
        there = False  # another program's
    encoded = read_passes(out) if there else None
    if encoded is None:
        raise InputError(f"--embeddings {out.uri}: no embedding table there; jobs/embed.py makes one")
    if any(one.dropped for one in encoded.passes):
        raise InputError(
            f"--embeddings {out.uri}: what was encoded is dropped (--keep-encoded no); embed again"
        )
    return Table(open_plan(out), encoded)


def key_of(kind: Kind, wanted: str, table: Table) -> str | None:
    """The name of a model in the table: of OF_TABLE its first of the kind; None for none.

    InputError for one that the table was made without.
    """
    own, models = table.encoded.of_kind(kind), table.encoded.models
    if wanted == OF_TABLE:
        return own[0] if own else None
    if wanted == "none":
        return None
    if not own:
        raise InputError(f"--{kind} {wanted}: {table.uri} was made without one; use --{kind} none")
    by_name = next((key for key in own if models[key]["model"] == wanted), None)
    if by_name and kind == "specialist":
        return by_name  # it is not needed any more
    spec = parse_spec(wanted, kind)
    if found := next((key for key in own if is_model(spec, models[key])), None):
        return found
    revision = revision_of(spec)
    of_revision = "" if revision is None else f" of revision {revision}"
    made = ", ".join(f"{models[key]['model']} of revision {models[key]['revision']}" for key in own)
    raise InputError(
        f"{table.uri} was made with --{kind} {made}, not {spec}{of_revision}; embed with it first"
    )


def label_table(config: ScoreConfig, preset: str) -> int:
    """Label what a table holds. Returns the exit code: 0, or 1 where more failed than is allowed."""
    table = open_table(str(config.embeddings))
    config, keys = _with_tables_options(config, table)
    if "alm" in keys:
        check_repeats(table.encoded, keys["alm"], config.audio_repeats, table.increments)
    out = Output.open(config.output)
    if out.fs == table.plan.out.fs and os.path.realpath(out.root) == os.path.realpath(table.plan.out.root):
        raise InputError(f"--output {out.uri} is the embedding table itself; score --input labels in place")
    facts = {kind: table.encoded.models[key] for kind, key in keys.items()}
    models = {kind: recorded_identity(one) for kind, one in facts.items()}
    digest = score_digest(config, models, f"{table.uri} {table.plan.id}")
    run = None if config.overwrite else _run_in(out, table)
    if run is not None and run["digest"] == digest and run["status"] == "complete":
        if run["increments"] == len(table.plan.increments):
            return console.nothing_to_do(run, out.uri, config.max_reject_rate)
    stale = stale_parts(out, table.plan.parts(), digest)
    if len(stale) > FEW_PARTS:
        cluster.connect(config.ray_address, streams=True)
    labelling, prompts = make_labelling(
        config, parse_spec(config.alm, "alm") if "alm" in keys else None, facts
    )
    if config.overwrite:  # not before everything that may be wrong with the command was looked at
        clear(out)
    run = begin_run(config, preset, out, facts, digest) | {"table": table.plan.id}
    if prompts:
        run["models"]["alm"] |= prompts
    repeats = {key: config.audio_repeats if kind == "alm" else () for kind, key in keys.items()}
    counted = repetitions(config, {"alm": config.audio_repeats} if "alm" in keys else {}, run["models"])
    task = LabelTask(table.plan, table.encoded, out, labelling, keys, repeats, counted, digest)
    try:
        return end_run(config, task, run, Spent())
    except ray.exceptions.RayError as error:
        return console.stopped(error)


def _run_in(out: Output, table: Table) -> dict[str, Any] | None:
    """The run in the output folder, of the same table; InputError where the folder is of anything else."""
    run = out.read_json(RUN)
    if run is None:
        refuse_strangers(out)
        return None
    refuse_other_config(out, run["config"], {"embeddings": table.uri})
    return run


def _with_tables_options(config: ScoreConfig, table: Table) -> tuple[ScoreConfig, dict[str, str]]:
    """The configuration with the table's models and what it has decided; which of its models are used."""
    decided = table.plan.identity | table.encoded.config
    values: dict[str, Any] = {name: decided[name] for name in DECIDED}
    keys: dict[str, str] = {}
    for kind in KINDS:
        wanted = getattr(config, kind)
        if (key := key_of(kind, wanted, table)) is not None:
            keys[kind] = key
        if wanted == OF_TABLE:
            values[kind] = table.encoded.models[key]["model"] if key else "none"
    table.check_complete(keys)
    return build(ScoreConfig, resolved(config) | values), keys
