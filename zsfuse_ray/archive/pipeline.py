"""The verbs over an archive: plan → encode → label; each resumes the work in the output folder."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from zsfuse_ray.archive import console
from zsfuse_ray.archive.describe import check_labels, make_labelling
from zsfuse_ray.archive.encode import encode_lacking
from zsfuse_ray.archive.estimate import models_on_sample, seconds_per_hour
from zsfuse_ray.archive.growth import Changes, compare, extend_plan
from zsfuse_ray.archive.heads import described, facts_of_spec, head_of, identified, warn_of_head
from zsfuse_ray.archive.label import FEW_PARTS, recordings_to_try_again, stale_parts
from zsfuse_ray.archive.layout import RUN, clear
from zsfuse_ray.archive.listing import list_archive, own_columns
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.passes import Encoded, ToEncode, begun_passes, lacking, read_passes
from zsfuse_ray.archive.plan import Plan, read_plan
from zsfuse_ray.archive.record import begin_run, end_run
from zsfuse_ray.archive.result import RunResult
from zsfuse_ray.archive.room import look_at_models
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.archive.settle import encodes_damaged_again
from zsfuse_ray.archive.wanted import (
    embed_digest,
    encoding_options,
    identity,
    repeats_of_table,
    repetitions,
    requested,
    score_digest,
    trained_fusion,
    with_normalise,
)
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.score import ArchiveOptions, PlanConfig, RunConfig, ScoreConfig
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.ownership import refuse_other_config

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
    listing = list_archive(config.input, config.allow_hosts)
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
    folder = _look(config)
    wanted = requested(config, folder.models)
    keys = {kind_of(key): key for key in wanted}
    given, specs = config, {kind_of(key): one.spec for key, one in wanted.items()}
    config = with_normalise(config, specs, own_columns(folder.listing))
    grows = folder.changes.grows(config.prune)
    head = head_of(config, facts_of_spec(specs["specialist"]) if "specialist" in specs else None)
    warn_of_head(head, config.normalise)
    identities = identified({kind: identity(spec) for kind, spec in specs.items()}, head)
    trained = trained_fusion(config, identities)
    digest = score_digest(config, identities, folder.increments + grows, trained=trained)
    if folder.is_current(digest) and not grows:
        return _nothing_to_do(config, folder)
    stale = stale_parts(folder.out, folder.plan.parts(), digest) if folder.plan else []
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
    plan = _extended(config, folder.out, folder.listing, folder.plan, folder.changes)
    run = begin_run(given, preset, folder.out, of_kind, digest)
    run["normalise"] = config.normalise
    if trained:
        run["fusion"] = trained.recorded
    if prompts:
        run["models"]["alm"] |= prompts.recorded
    repeats = {key: one.audio_repeats for key, one in wanted.items()}
    if plan is not folder.plan:
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
    )
    return end_run(config, task, stale, run, spent, own_ray)


@holds_output
@encodes_damaged_again
def embed(config: EmbedConfig, preset: str) -> RunResult:
    """Encode an archive. InputError or RunError if that fails before all of it is encoded.

    In a folder that score has labelled, the tables and run.json are unchanged: only encoded/ grows.
    """
    folder = _look(config)
    wanted = requested(config, folder.models)
    everywhere = range(len(folder.plan.increments)) if folder.plan else ()
    lacks = folder.lacks(wanted, everywhere, config.prune)
    repeats = repeats_of_table(wanted, folder.encoded)
    digest = embed_digest(repeats)
    if not lacks and (folder.is_current(digest) or folder.is_labelled):
        return _nothing_to_do(config, folder)
    own_ray = _join_ray(config, wanted, lacks, 0)
    facts = look_at_models({key: one.spec for key, one in wanted.items()}, folder.models).facts
    if config.overwrite:
        clear(folder.out)
    plan = _extended(config, folder.out, folder.listing, folder.plan, folder.changes)
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
    return end_run(config, task, stale, run, spent, own_ray)


@dataclass(frozen=True, eq=False)
class _Folder:
    """Content of an output folder when a command starts, and changes of the archive since its plan."""

    out: Output
    listing: pa.Table
    plan: Plan | None
    changes: Changes
    encoded: Encoded | None
    run: dict[str, Any] | None

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Facts of the models in encoded/, by their names there."""
        return self.encoded.models if self.encoded else {}

    @property
    def increments(self) -> int:
        """Number of increments of the plan."""
        return len(self.plan.increments) if self.plan else 0

    @property
    def is_labelled(self) -> bool:
        """Whether score has labelled this folder, or started to."""
        return self.run is not None and bool(self.run["config"].get("labels"))

    def is_current(self, digest: str) -> bool:
        """Whether a finished run with this digest has written tables of the whole plan."""
        run, plan = self.run, self.plan
        if run is None or plan is None or run.get("status") != "complete":
            return False
        return run.get("digest") == digest and run.get("increments") == len(plan.increments)

    def lacks(self, wanted: Mapping[str, ToEncode], increments: Iterable[int], prune: bool) -> bool:
        """Whether something must be encoded: in these increments, or new to the archive."""
        if self.plan is None or self.encoded is None or len(self.changes.new) or len(self.changes.changed):
            return True
        if prune and len(self.changes.gone) and any(one.dropped for one in self.encoded.passes):
            return True
        some = [n for n in increments if self.plan.increments[n].bundles]
        return bool(lacking(wanted, self.encoded, some) or begun_passes(wanted, self.encoded, some))


def _look(config: RunConfig) -> _Folder:
    """Read the archive's listing and the output folder; InputError if the folder holds something else."""
    out = Output.open(config.output)
    listing = list_archive(config.input, config.allow_hosts)
    if config.overwrite:
        return _Folder(out, listing, None, compare(None, listing), None, None)
    run = out.read_json(RUN)
    if run is not None and run.get("config", {}).get("embeddings") is not None:
        refuse_other_config(out, run["config"], {"embeddings": None})
    there, encoded = read_plan(config, out), read_passes(out)
    if encoded is not None:
        refuse_other_config(out, encoded.config, encoding_options(config))
    again = recordings_to_try_again(out, there, run)
    return _Folder(out, listing, there, compare(there, listing, again), encoded, run)


def _nothing_to_do(config: RunConfig, folder: _Folder) -> RunResult:
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
