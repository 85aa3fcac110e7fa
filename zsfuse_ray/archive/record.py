"""run.json: written when a command claims the output folder, and again when its tables are complete."""

import time
from collections.abc import Mapping
from typing import Any

from zsfuse_ray.archive import console
from zsfuse_ray.archive.encode import Spent
from zsfuse_ray.archive.label import label, peak_memory_mb
from zsfuse_ray.archive.layout import RUN
from zsfuse_ray.archive.parts import LabelTask
from zsfuse_ray.archive.passes import drop_passes
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.archive.result import RunResult
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.score import OPERATIONAL, RunConfig, ScoreConfig
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import git_revision, versions


def begin_run(
    config: RunConfig, preset: str, out: Output, models: Mapping[str, dict[str, Any]], digest: str
) -> dict[str, Any]:
    """Write run.json at the start of a run; returns its content. digest: of what determines its tables."""
    run: dict[str, Any] = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "config": {k: v for k, v in recorded(config).items() if k not in OPERATIONAL},
        "digest": digest,
        "models": {key: dict(facts) for key, facts in models.items()},
    }
    if figures := console.print_models(config, preset):
        run["measured"] = figures
    out.write_json(RUN, run | {"status": "started"})
    return run


def end_run(
    config: RunConfig, task: LabelTask, stale: list[Part], run: dict[str, Any], spent: Spent, own_ray: bool
) -> RunResult:
    """Label the stale parts and write run.json.

    own_ray: whether this process started Ray on this machine.
    """
    started = time.monotonic()
    labelled = label(task, stale, own_ray)
    label_s = time.monotonic() - started
    run["time"] = {
        "wall_s": spent.wall_s + label_s,
        "encode_s": spent.wall_s,
        "label_s": label_s,
        "audio_hours_this_time": spent.audio_s / 3600,
        "audio_hours_per_device_hour": spent.audio_s / max(spent.wall_s, 1e-9) / spent.devices,
        "segments_labelled_per_s": labelled.segments / label_s,
        "cpu_s_of_label_tasks": labelled.cpu_s,
        "peak_mb_of_label_tasks": labelled.task_peak_mb,
        "peak_mb_of_driver": peak_memory_mb(),
        "device": spent.device,
        "gpu_batches_halved": spent.halved,
    }
    run |= {"counts": labelled.counts, "increments": len(task.plan.increments)}
    run["effective_repetition"] = labelled.effective_repetition
    if labelled.prior is not None:
        run["prior"] = labelled.prior
    if isinstance(config, ScoreConfig):
        run["effective_repetition"] = labelled.effective_repetition.get("alm", {})
        if not config.keep_encoded and config.embeddings is None:  # another output's is kept
            drop_passes(task.encoded)
    run["status"] = "complete"
    task.out.write_json(RUN, run)
    return RunResult(task.out, run)
