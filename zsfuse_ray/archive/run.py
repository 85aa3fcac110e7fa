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

from zsfuse_ray.archive import cluster, progress
from zsfuse_ray.archive.encode_stage import Hear
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.output import CHECKPOINT, RUN, Output
from zsfuse_ray.archive.plan import existing_plan, make_plan
from zsfuse_ray.archive.scoring import Stage, describe, hearing, model_specs, run_bundles
from zsfuse_ray.archive.summaries import effective_repetition, items_done
from zsfuse_ray.archive.tables import compact
from zsfuse_ray.archive.versions import git_revision, versions
from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.score import OPERATIONAL, RunConfig, ScoreConfig
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.models.catalog import UNTRAINED, quality
from zsfuse_ray.models.checkpoints import resolve


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


def revisions(config: EncoderOptions) -> dict[str, str | None]:
    """Revision of each checkpoint; InputError where one is not there or not reachable."""
    specs = model_specs(config)
    return {
        kind: None if spec.checkpoint == UNTRAINED else resolve(spec.checkpoint).revision
        for kind, spec in specs.items()
    }


def refuse_other_config(out: Output, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """InputError, saying what differs, where a run in the folder was of other options."""
    changed = [f"{k} {_short(then.get(k))} → {_short(now[k])}" for k in now if then.get(k) != now[k]]
    if changed:
        raise InputError(
            f"{out.uri} holds another run's results ({'; '.join(changed)}); "
            "use another --output or --overwrite"
        )


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def say_models(config: EncoderOptions, preset: str) -> dict[str, Any] | None:
    """Say of models without training or with known figures what they are worth; return these figures."""
    figures = quality(model_specs(config).values())
    if figures:
        known = ", ".join(f"{corpus} {ua['zs_fuse']:.0%}" for corpus, ua in figures["ua"].items())
        print(
            f"preset {preset}: small models for trying out; UA on speakers unheard in training: {known}. "
            "Name larger ones with --alm and --specialist, or --preset paper.",
            file=sys.stderr,
        )
    names = [kind for kind, spec in model_specs(config).items() if spec.checkpoint == UNTRAINED]
    if names:
        print(
            f"UNTRAINED {' and '.join(names)}: random weights, what this run says means nothing. "
            "Name real models with --alm and --specialist, or --preset paper.",
            file=sys.stderr,
        )
    return figures


def summary(run: Mapping[str, Any], uri: str) -> str:
    """What a person wants to see at the end: shares, rejects, where the tables are, how to look at them."""
    counts = run["counts"]
    lines = [
        hours(counts),
        "labels by speech time: " + ", ".join(f"{n} {s:.0%}" for n, s in _largest(counts["label_shares"])),
    ]
    lines += [*reject_lines(counts), *repetition_lines(run)]
    lines += [
        f"tables: {uri}/segments  recordings  rejects   run: {uri}/run.json",
        f"look:   python -c \"import pandas as pd; print(pd.read_parquet('{uri}/segments'))\"",
    ]
    return "\n".join(lines)


def hours(counts: Mapping[str, Any]) -> str:
    """How much audio and speech there is."""
    return (
        f"{counts['audio_hours']:.2f} h of audio in {counts['recordings']:,} recordings, "
        f"{counts['speech_hours']:.2f} h of speech in {counts['segments']:,} segments"
    )


def reject_lines(counts: Mapping[str, Any]) -> list[str]:
    """What was rejected, the most common reason first."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in _largest(counts["rejects"]))
    return [f"rejects: {reasons}"] if reasons else []


def repetition_lines(run: Mapping[str, Any]) -> list[str]:
    """What amplification really did to the audio and to the prompts."""
    lines = repetition_of_audio(run.get("effective_repetition", {}))
    for b, cut in run["models"].get("alm", {}).get("prompts_truncated", {}).items():
        if cut:
            lines.append(f"text × {b}: {cut} prompts were longer than the model reads and were cut")
    return lines


def repetition_of_audio(effective: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What copies of the audio really did."""
    said = {
        "same": "same input as without",
        "fewer": "fewer copies",
        "cropped": "cropped",
        "more": "more copies",
    }
    lines = []
    for a, effects in effective.items():
        total = sum(effects.values())
        if a != "1" and total:
            shares = ", ".join(
                f"{said[name]} {count / total:.0%}" for name, count in effects.items() if count
            )
            lines.append(f"audio × {a}: {shares}")
    return lines


def _largest(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: -item[1])
