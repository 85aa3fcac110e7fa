"""Label the embedding table of another output, without audio or GPU."""

import logging
import os
from typing import Any

from zsfuse_ray.archive.describe import check_labels, make_labelling, model_specs
from zsfuse_ray.archive.encode import Spent
from zsfuse_ray.archive.heads import described, head_of, identified, warn_of_head
from zsfuse_ray.archive.label import FEW_PARTS, stale_parts
from zsfuse_ray.archive.layout import OURS, RUN, clear
from zsfuse_ray.archive.normalise import SPEAKER
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.record import begin_run, end_run
from zsfuse_ray.archive.result import RunResult
from zsfuse_ray.archive.room import look_at_models
from zsfuse_ray.archive.table import KINDS, Table, key_of, open_table
from zsfuse_ray.archive.texts import find_transcripts
from zsfuse_ray.archive.wanted import (
    recorded_identity,
    repetitions,
    score_digest,
    trained_fusion,
    with_fusion,
    with_normalise,
)
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.config.options import build, resolved
from zsfuse_ray.config.score import DECIDED, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import named_in_data, parse_spec
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.ownership import claim

log = logging.getLogger(__name__)


@holds_output
def label_table(config: ScoreConfig, preset: str) -> RunResult:
    """Label an embedding table. InputError or RunError if that fails before the tables are complete."""
    table = open_table(str(config.embeddings))
    config, keys = _with_tables_options(config, table)
    if "alm" in keys:
        table.check_repeats(keys["alm"], config.audio_repeats)
    out = Output.open(config.output)
    if out.fs == table.plan.out.fs and os.path.realpath(out.root) == os.path.realpath(table.plan.out.root):
        raise InputError(
            f"--output {out.uri} is the embedding table itself; label it in place with score --input"
        )
    facts = {kind: table.encoded.models[key] for kind, key in keys.items()}
    head = head_of(config, facts.get("specialist"))
    models = identified({kind: recorded_identity(one) for kind, one in facts.items()}, head)
    of_kind = described(facts, head)
    given = config
    config = with_normalise(
        config, model_specs(config), [SPEAKER] if table.encoded.has_turns else table.plan.columns
    )
    warn_of_head(head, config.normalise)
    trained = trained_fusion(config, models)
    transcripts = find_transcripts(config.transcripts)
    source = f"{table.uri} {table.plan.id}"
    if table.limit_hours is not None:
        source += f" first {table.limit_hours} h"
    identities = with_fusion(models, trained)
    digest = score_digest(config, identities, len(table.plan.increments), source, transcripts)
    of_table = {"embeddings": table.uri}
    run = claim(out, record=RUN, what="run", ours=OURS, decides=of_table, overwrite=config.overwrite)
    now = {"digest": digest, "status": "complete", "increments": len(table.plan.increments)}
    if run is not None and all(run.get(name) == value for name, value in now.items()):
        log.info(f"{out.uri} is complete; nothing to do")
        return RunResult(out, run)
    parts = table.plan.parts()
    stale = parts if config.overwrite else stale_parts(out, parts, digest)
    own_ray = len(stale) > FEW_PARTS and cluster.connect(config.ray_address, config.dashboard, streams=True)
    check_labels(config, of_kind)
    loads = {"alm"} if config.normalise == "none" else {"alm", "specialist"}
    specs = {kind: parse_spec(getattr(config, kind), kind) for kind in KINDS if kind in loads & keys.keys()}
    loaded = look_at_models(specs, facts, {kind: kind for kind in keys}, config)
    prompts = loaded.prompts
    labelling = make_labelling(config, of_kind, prompts, loaded.readout, head and head.head, trained)
    if config.overwrite:  # after all checks of the command
        clear(out)
    run = begin_run(given, preset, out, of_kind, digest)
    run["normalise"] = config.normalise
    if trained:
        run["fusion"] = trained.recorded
    if prompts:
        run["models"]["alm"] |= prompts.recorded
    repeats = {key: config.audio_repeats if kind == "alm" else () for kind, key in keys.items()}
    counted = repetitions(config, {"alm": config.audio_repeats} if "alm" in keys else {}, run["models"])
    task = LabelTask(
        table.plan,
        table.encoded,
        out,
        labelling,
        keys,
        repeats,
        counted,
        digest,
        config.normalise,
        prior=config.wanted_prior,
        transcripts=transcripts,
    )
    return end_run(config, task, stale, run, Spent(), own_ray)


def _with_tables_options(config: ScoreConfig, table: Table) -> tuple[ScoreConfig, dict[str, str]]:
    """The configuration with the table's models and encoding options; the names of the models used."""
    decided = table.plan.identity | table.encoded.config
    values: dict[str, Any] = {name: decided[name] for name in DECIDED if name != "speakers"}
    keys: dict[str, str] = {}
    for kind in KINDS:
        wanted = getattr(config, kind)
        if (key := key_of(kind, wanted, table)) is not None:
            keys[kind] = key
        if wanted == OF_TABLE:
            named = table.encoded.models[key]["model"] if key else "none"
            values[kind] = named_in_data(named, table.uri, f"--{kind}")
    table.check_complete(keys)
    return build(ScoreConfig, resolved(config) | values), keys
