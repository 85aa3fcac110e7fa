"""The verbs over an archive: plan → encode → label; each resumes the work in the output folder."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import ray

from zsfuse_ray.archive import console
from zsfuse_ray.archive.current import Folder, look_at
from zsfuse_ray.archive.describe import check_labels, make_labelling
from zsfuse_ray.archive.encode import encode_lacking
from zsfuse_ray.archive.estimate import models_on_sample, seconds_per_hour
from zsfuse_ray.archive.growth import Changes, compare, extend_plan
from zsfuse_ray.archive.heads import described, facts_of_spec, head_of, identified, warn_of_head
from zsfuse_ray.archive.label import FEW_PARTS, stale_parts
from zsfuse_ray.archive.layout import clear
from zsfuse_ray.archive.limit import about_limit, first_hours
from zsfuse_ray.archive.listing import list_archive, own_columns
from zsfuse_ray.archive.normalise import SPEAKER
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.plan import Plan, read_plan
from zsfuse_ray.archive.record import begin_run, end_run
from zsfuse_ray.archive.result import RunResult
from zsfuse_ray.archive.room import look_at_models
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.archive.settle import encodes_damaged_again
from zsfuse_ray.archive.texts import find_transcripts
from zsfuse_ray.archive.wanted import (
    embed_digest,
    identity,
    repeats_of_table,
    repetitions,
    requested,
    score_digest,
    trained_fusion,
    with_fusion,
    with_normalise,
)
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.score import ArchiveOptions, PlanConfig, RunConfig, ScoreConfig
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output

if TYPE_CHECKING:  # imports torch, which a driver does not need
    from zsfuse_ray.archive.measure import Measured

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A plan and its estimated cost.

    decode_s: seconds to decode the whole archive here, None if nothing could be measured; models: measured on
    a sample, None if not requested.
    """

    plan: Plan
    decode_s: float | None
    models: "Measured | None"


@holds_output
def plan(config: PlanConfig) -> Planned:
    """Write the plan of an archive, or extend it."""
    config.check_models()
    out = Output.open(config.output)
    wanted = requested(config, {}) if config.measure else {}
    listing = list_archive(config.input, config.allow_hosts, config.speakers)
    there = None if config.overwrite else read_plan(config, out)
    changes = compare(there, listing)
    own_ray = cluster.connect(config.ray_address, config.dashboard)
    resources = ray.cluster_resources()
    pools = cluster.pools(config, resources, cluster.worker_nodes()) if config.measure else []
    if config.overwrite:  # after all checks of the command
        clear(out)
    made = _extended(config, out, listing, there, changes)
    cpus = cluster.cores() if own_ray else resources.get("CPU", 1)
    cost = seconds_per_hour(made, config)
    measured = None
    if config.measure:
        log.info("measuring the models on a sample")
        measured = models_on_sample(made, config, wanted, pools[0].num_gpus)
    return Planned(made, None if cost is None else cost * made.total("hours") / cpus, measured)


@holds_output
@encodes_damaged_again
def score(config: ScoreConfig, preset: str) -> RunResult:
    """Label an archive. InputError or RunError if that fails before the tables are complete."""
    folder = look_at(config)
    wanted = requested(config, folder.models)
    keys = {kind_of(key): key for key in wanted}
    given, specs = config, {kind_of(key): one.spec for key, one in wanted.items()}
    named = [SPEAKER] if config.speakers else own_columns(folder.listing)
    config = with_normalise(config, specs, named)
    grows = folder.changes.increments(config.prune)
    head = head_of(config, facts_of_spec(specs["specialist"]) if "specialist" in specs else None)
    warn_of_head(head, config.normalise)
    identities = identified({kind: identity(spec) for kind, spec in specs.items()}, head)
    trained = trained_fusion(config, identities)
    identities = with_fusion(identities, trained)
    transcripts = find_transcripts(config.transcripts, folder.listing["uri"].to_pylist())
    decides = (identities, folder.increments + grows, "", transcripts)
    digest = score_digest(config, *decides)
    of_all = score_digest(replace(config, limit_hours=None), *decides)
    if (folder.is_current(digest) or folder.is_current(of_all)) and not grows:
        return _nothing_to_do(config, folder)
    there = first_hours(folder.plan, config.limit_hours) if folder.plan else None
    stale = stale_parts(folder.out, there.parts(), digest) if there else []
    lacks = folder.lacks(wanted, {part.increment for part in stale}, config.prune)
    known = {kind: folder.models[key] for kind, key in keys.items() if key in folder.models}
    check_labels(config, described(known, head))
    own_ray = _join_ray(config, wanted, lacks, len(stale))
    loaded = look_at_models({key: one.spec for key, one in wanted.items()}, folder.models, keys, config)
    facts, prompts = loaded.facts, loaded.prompts
    of_kind = described({kind: facts[key] for kind, key in keys.items()}, head)
    labelling = make_labelling(config, of_kind, prompts, loaded.readout, head and head.head, trained)
    if stale and not lacks:
        log.info(f"{folder.out.uri} is already encoded: labelling without audio")
    if config.overwrite:  # after all checks of the command
        clear(folder.out)
    whole = _extended(config, folder.out, folder.listing, folder.plan, folder.changes)
    plan = first_hours(whole, config.limit_hours)
    run = begin_run(given, preset, folder.out, of_kind, digest)
    run["normalise"] = config.normalise
    if trained:
        run["fusion"] = trained.recorded
    if prompts:
        run["models"]["alm"] |= prompts.recorded
    repeats = {key: one.audio_repeats for key, one in wanted.items()}
    if whole is not folder.plan:
        stale = stale_parts(folder.out, plan.parts(), digest)
    needed = sorted({part.increment for part in stale})
    encoded, spent = encode_lacking(config, plan, folder.encoded, wanted, facts, needed, own_ray)
    counted = repetitions(config, {"alm": repeats[keys["alm"]]} if "alm" in keys else {}, run["models"])
    task = LabelTask(
        plan,
        encoded,
        folder.out,
        labelling,
        keys,
        repeats,
        counted,
        digest,
        config.normalise,
        prior=config.wanted_prior,
        transcripts=transcripts,
    )
    run["limit"] = about_limit(plan, whole)
    return end_run(config, task, stale, run, spent, own_ray)


@holds_output
@encodes_damaged_again
def embed(config: EmbedConfig, preset: str) -> RunResult:
    """Encode an archive. InputError or RunError if that fails before all of it is encoded.

    In a folder that score has labelled, the tables and run.json are unchanged: only encoded/ grows.
    """
    folder = look_at(config)
    wanted = requested(config, folder.models)
    everywhere = range(len(folder.plan.increments)) if folder.plan else ()
    lacks = folder.lacks(wanted, everywhere, config.prune)
    repeats = repeats_of_table(wanted, folder.encoded)
    digest = embed_digest(repeats, config.limit_hours)
    is_done = folder.is_current(digest) or folder.is_current(embed_digest(repeats))
    if not lacks and (is_done or folder.is_labelled):
        return _nothing_to_do(config, folder)
    own_ray = _join_ray(config, wanted, lacks, 0)
    facts = look_at_models({key: one.spec for key, one in wanted.items()}, folder.models).facts
    if config.overwrite:
        clear(folder.out)
    whole = _extended(config, folder.out, folder.listing, folder.plan, folder.changes)
    plan = first_hours(whole, config.limit_hours)
    run = {} if folder.is_labelled else begin_run(config, preset, folder.out, facts, digest)
    everywhere = range(len(plan.increments))
    encoded, spent = encode_lacking(config, plan, folder.encoded, wanted, facts, everywhere, own_ray)
    if folder.is_labelled:
        log.info(f"{folder.out.uri} is encoded; its labels are unchanged until score runs again")
        assert folder.run is not None
        return RunResult(folder.out, folder.run)
    for key, own in repeats.items():
        run["models"][key] |= {"audio_repeats": list(own)} if kind_of(key) == "alm" else {}
    counted = repetitions(config, repeats, facts)
    task = LabelTask(plan, encoded, folder.out, None, {}, repeats, counted, digest)
    stale = stale_parts(folder.out, plan.parts(), digest)
    run["limit"] = about_limit(plan, whole)
    return end_run(config, task, stale, run, spent, own_ray)


def _nothing_to_do(config: RunConfig, folder: Folder) -> RunResult:
    assert folder.run is not None
    console.print_changes(folder.changes, config.prune)
    log.info(f"{folder.out.uri} is complete; nothing to do")
    return RunResult(folder.out, folder.run)


def _join_ray(config: RunConfig, wanted: Mapping[str, ToEncode], encodes: bool, parts: int) -> bool:
    """Join or start Ray if needed; returns whether it is local. InputError if the models do not fit on it."""
    own_ray = False
    if encodes or parts > FEW_PARTS:
        own_ray = cluster.connect(config.ray_address, config.dashboard, streams=True)
    if encodes:
        cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes(), tuple(wanted))
    return own_ray


def _extended(
    config: ArchiveOptions, out: Output, listing: pa.Table, there: Plan | None, changes: Changes
) -> Plan:
    """The plan, extended by what is new; logs how the archive has changed."""
    if there is not None and there.increments:
        console.print_changes(changes, config.prune)
        if not changes.grows(config.prune):
            return there
    return extend_plan(config, out, listing, there, changes)
