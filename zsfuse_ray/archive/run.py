"""One run over an archive from start to end: check, plan, hear, compact, say what came out."""

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import ray.exceptions

from zsfuse_ray.archive.describe import describe, hearing, revisions
from zsfuse_ray.archive.encode_stage import Hear
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.plan import existing_plan, make_plan
from zsfuse_ray.archive.saying import say_models, summary
from zsfuse_ray.archive.scoring import Stage, run_bundles
from zsfuse_ray.archive.summaries import effective_repetition, items_done
from zsfuse_ray.archive.tables import compact
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.score import OPERATIONAL, RunConfig, ScoreConfig
from zsfuse_ray.errors import redact
from zsfuse_ray.runs import cluster, progress
from zsfuse_ray.runs.folder import CHECKPOINT, RUN, Output
from zsfuse_ray.runs.ownership import refuse_other_config
from zsfuse_ray.runs.provenance import git_revision, versions


@dataclass(frozen=True)
class Work:
    """What a run makes of what the models say."""

    stage: Stage
    facts: dict[str, Any]  # for run.json: "models", and what else belongs to a kind of run
    compact: Callable[[Output], dict[str, Any]]  # items/ → the tables; returns "counts" and more for run.json
    hear: Mapping[str, Hear]  # what each model is to compute


def score(config: ScoreConfig, preset: str) -> int:
    """Label an archive. Returns the exit code: 0, or 1 where more failed than ``max_reject_rate`` allows."""
    return run_archive(config, preset, _scoring, summary)


def _scoring(config: ScoreConfig) -> Work:
    scorer, models = describe(config)
    parts = {"specialist": scorer.known, "alm": config.labels if "alm" in models else ()}
    tables = partial(_score_tables, config=config, models=models, parts=parts)
    return Work(scorer, {"models": models}, tables, hearing(config))


def _score_tables(
    out: Output, config: ScoreConfig, models: Mapping[str, Any], parts: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    found: dict[str, Any] = {"counts": compact(out, config.labels, parts)}
    if "alm" in models:
        found["effective_repetition"] = repetition(out, config, models["alm"], config.audio_repeats)
    return found


def repetition(
    out: Output, config: RunConfig, alm: Mapping[str, Any], repeats: Sequence[int]
) -> dict[str, dict[str, int]]:
    """How many segments each amplification changed for an ALM, and how: see `effective_repetition`."""
    how = (alm["sample_rate"], alm["window"], alm["fill"], config.crop == "seeded")
    return effective_repetition(out, repeats, *how)


def run_archive(
    config: RunConfig,
    preset: str,
    prepare: Callable[[Any], Work],
    say: Callable[[Mapping[str, Any], str], str],
) -> int:
    """Hear an archive, or what an earlier run has left of it, and write the tables; returns the exit code.

    prepare: looks at the models, raising InputError for what is wrong with them. say: what to print at the
    end, given run.json and the folder's name.
    """
    out = Output.open(config.output)
    listing = list_archive(config.input)
    decides = {k: v for k, v in recorded(config).items() if k not in OPERATIONAL}
    decides |= {"revisions": revisions(config)}
    run = plan = None
    if not config.overwrite:
        run = out.read_json(RUN)
        if run is not None:
            refuse_other_config(out, run["config"], decides)
        plan = existing_plan(config, out, listing)
    if run is not None and run["status"] == "complete":
        print(f"{out.uri} is complete; nothing to do", file=sys.stderr)
    else:
        figures = say_models(config, preset)
        own_ray = cluster.connect(config.ray_address, streams=True)
        pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes())
        work = prepare(config)
        if config.overwrite:  # not before everything that may be wrong with the command was looked at
            out.clear()
        plan = plan or make_plan(config, out, listing)
        run = {
            "versions": versions(),
            "git": git_revision(),
            "preset": preset,
            "config": decides,
            **work.facts,
            **({"measured": figures} if figures else {}),
        }
        out.write_json(RUN, run | {"status": "started"})
        try:
            run |= hear_archive(config, out, plan, pools, own_ray, work)
        except ray.exceptions.RayError as error:
            print(stopped(error), file=sys.stderr)
            return 1
        out.write_json(RUN, run | {"status": "complete"})
    print(say(run, out.uri), flush=True)
    return verdict(run["counts"], config.max_reject_rate)


def stopped(error: ray.exceptions.RayError) -> str:
    """What ended a run half-way: one line where the store was lost, else all that Ray says of it."""
    outage = re.search(r"SourceError: (.+)", str(error))
    what = outage.group(1) if outage else redact(str(error))
    return f"{what}\nerror: the run stopped; what is written stays, and the same command goes on from there"


def verdict(counts: Mapping[str, Any], max_reject_rate: float) -> int:
    """Exit code of a run with these counts, with a line on stderr where it is not 0."""
    tried = max(1, counts["items"] + counts["unreadable"])
    rate = counts["failures"] / tried
    if rate <= max_reject_rate:
        return 0
    print(
        f"{counts['failures']} of {tried} items failed ({rate:.1%}, allowed are {max_reject_rate:.1%}, "
        "--max-reject-rate); the tables are written, reasons are in rejects/",
        file=sys.stderr,
    )
    return 1


def hear_archive(
    config: RunConfig,
    out: Output,
    plan: Mapping[str, Any],
    pools: list[cluster.Pool],
    own_ray: bool,
    work: Work,
) -> dict[str, Any]:
    """Hear what is left, compact, and return what run.json says of it."""
    started = time.monotonic()
    tally = progress.start_tally()
    earlier_s = _seconds_done(out)
    cores = cluster.cores() if own_ray else None
    with progress.Line(plan["hours"] * 3600, earlier_s, tally):
        run_bundles(config, out, work.stage, pools, plan["bundles"], cores, tally, work.hear)
    scored_s = progress.sums(tally)["audio_s"]
    wall_s = time.monotonic() - started
    found = work.compact(out)
    devices = sum(pool.min_size * (pool.num_gpus or 1) for pool in pools)
    time_spent = {
        "wall_s": wall_s,
        "audio_hours_this_time": scored_s / 3600,
        "audio_hours_per_device_hour": scored_s / wall_s / devices,
        "device": "gpu" if pools[0].num_gpus else "cpu",
    }
    return found | {"time": time_spent}


def _seconds_done(out: Output) -> float:
    """Audio that an earlier, interrupted run has written already."""
    if not out.exists(CHECKPOINT):  # then all is done again
        return 0.0
    return float(items_done(out)["planned_s"].to_numpy().sum())
