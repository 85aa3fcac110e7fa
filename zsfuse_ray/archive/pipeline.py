"""The verbs over an archive, plan → encode → label: each begins where an earlier command has left the folder."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions

from zsfuse_ray.archive import console
from zsfuse_ray.archive.describe import describe_models, make_labelling, where_there_is_room
from zsfuse_ray.archive.encoding import encode_all, increments_to_encode
from zsfuse_ray.archive.estimate import seconds_per_hour
from zsfuse_ray.archive.label import FEW_PARTS, label, stale_parts
from zsfuse_ray.archive.layout import RUN, clear
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.passes import Encoded, drop_passes, lacking, read_passes, requested
from zsfuse_ray.archive.plan import Changes, Plan, compare, extend_plan, read_plan
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.archive.stages.encode import ToEncode
from zsfuse_ray.archive.wanted import all_repeats, embed_digest, encoding_options, repetitions, score_digest
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.score import OPERATIONAL, PlanConfig, RunConfig, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import Output, refuse_other_config
from zsfuse_ray.runs.provenance import git_revision, versions


def plan(config: PlanConfig) -> int:
    """``jobs/plan.py``: write the plan, or what is new to it, and print what is in it. Returns the exit code."""
    out = Output.open(config.output)
    listing = list_archive(config.input)
    if config.overwrite:
        clear(out)
    there = read_plan(config, out)
    changes = compare(there, listing)
    own_ray = cluster.connect(config.ray_address)
    made = extended(config, out, listing, there, changes)
    cpus = cluster.cores() if own_ray else ray.cluster_resources().get("CPU", 1)
    cost = seconds_per_hour(made, config)
    print(console.plan_text(made, None if cost is None else cost * made.total("hours") / cpus))
    return 0


def extended(
    config: PlanConfig, out: Output, listing: pa.Table, there: Plan | None, changes: Changes
) -> Plan:
    """The plan with what is new to it; prints how the archive has changed."""
    if there is not None:
        console.print_changes(changes, config.prune)
        if not changes.grows(config.prune):
            return there
    return extend_plan(config, out, listing, there, changes)


@dataclass(frozen=True, eq=False)
class _Found:
    """What an output folder holds when a command begins, and how the archive differs from its plan."""

    out: Output
    listing: pa.Table
    plan: Plan | None
    changes: Changes
    encoded: Encoded | None
    run: dict[str, Any] | None

    @property
    def is_current(self) -> bool:
        """Whether a finished run has labelled all that the plan holds now."""
        run, plan = self.run, self.plan
        if run is None or plan is None or run.get("status") != "complete":
            return False
        return run.get("increments") == len(plan.increments)


def _find(config: RunConfig) -> _Found:
    """Look at the archive and the output folder; InputError where the folder is of anything else."""
    out = Output.open(config.output)
    listing = list_archive(config.input)
    if config.overwrite:
        return _Found(out, listing, None, compare(None, listing), None, None)
    run = out.read_json(RUN)
    if run is not None and run.get("config", {}).get("embeddings") is not None:
        refuse_other_config(out, run["config"], {"embeddings": None})
    there, encoded = read_plan(config, out), read_passes(out)
    if encoded is not None:
        refuse_other_config(out, encoded.config, encoding_options(config))
    return _Found(out, listing, there, compare(there, listing), encoded, run)


def score(config: ScoreConfig, preset: str) -> int:
    """Label an archive. Returns the exit code: 0, or 1 where more failed than ``max_reject_rate`` allows."""
    found = _find(config)
    wanted = requested(config, found.encoded.models if found.encoded else {})
    digest = score_digest(config, wanted)
    if found.is_current and not found.changes.grows(config.prune) and found.run["labelling"] == digest:
        return _nothing_to_do(config, found)
    return _finish(config, preset, found, wanted, digest)


def embed(config: EmbedConfig, preset: str) -> int:
    """Encode an archive. Returns the exit code: 0, or 1 where more failed than ``max_reject_rate`` allows.

    A folder that score has labelled keeps its tables: only what is encoded grows.
    """
    found = _find(config)
    wanted = requested(config, found.encoded.models if found.encoded else {})
    there = increments_to_encode(found.plan) if found.plan else ()
    lacks = found.plan is None or found.changes.grows(config.prune) or lacking(wanted, found.encoded, there)
    if found.is_current and not lacks:
        return _nothing_to_do(config, found)
    labelled = found.run is not None and found.run.get("labelling") is not None
    return _finish(config, preset, found, wanted, None if labelled else embed_digest(wanted, found.encoded))
