"""One run of ``zsfuse train``: check, decode, train on Ray's workers, save the best epoch with its card."""

import dataclasses
import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.train import OPERATIONAL, TrainConfig
from zsfuse_ray.config.train_fusion import OF_FUSION
from zsfuse_ray.corpora.registry import licences
from zsfuse_ray.errors import InputError, RunError, Stopped, redact
from zsfuse_ray.models.catalog import MODELS
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.runs.result import Result
from zsfuse_ray.training.card import card
from zsfuse_ray.training.clips import StoredClips, store_clips
from zsfuse_ray.training.data import (
    HeldOut,
    about_dev,
    checked,
    counted,
    fingerprint,
    training_table,
    with_dev_speakers,
)
from zsfuse_ray.training.folder import CARD, CURVES, METRICS, RUN, STORAGE, clear, earlier_run, write_rejects
from zsfuse_ray.training.loop import RANK, restore
from zsfuse_ray.training.tasks import task_class
from zsfuse_ray.training.watch import Screen, start_watcher
from zsfuse_ray.training.worker import load_state, train_worker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult(Result):
    """A finished training; the record is that of training.json."""

    @property
    def best(self) -> dict[str, float]:
        """The metrics of the saved epoch."""
        return self.record["best"]


@holds_output
def train(config: TrainConfig, preset: str, command: str) -> TrainResult:
    """Train a model. RunError if the training fails or too many clips are unreadable.

    command: the command line that reproduces the training, for the model card.
    """
    config = dataclasses.replace(config, init=_placed(config.init), text=_placed(config.text))
    out = Output.open(config.output)
    table, held_out = with_dev_speakers(training_table(config), config)
    rate = task_class(config).check(config, table)
    decides = {k: v for k, v in recorded(config).items() if k not in OPERATIONAL}
    decides |= {"clips": fingerprint(table), "revision": resolve(config.init).revision}
    earlier = earlier_run(out, decides, config.overwrite)
    if earlier and earlier.get("status") == "complete":
        log.info(f"{out.uri} is complete; nothing to do")
        return TrainResult(out, earlier)
    own_ray = cluster.connect(config.ray_address, config.dashboard)
    scaling = scaling_for(config, ray.cluster_resources())
    if config.overwrite:
        clear(out)
    run = {"versions": versions(), "git": git_revision(), "preset": preset, "config": decides}
    run["held_out"] = {str(corpus): list(speakers) for corpus, speakers in held_out.items()}
    if line := about_dev(table, config, held_out):
        log.info(line)
    out.write_json(RUN, run | {"status": "started"})
    try:
        stored = store_clips(table, rate, cluster.cores() if own_ray else None)
    except SourceError as error:
        raise Stopped(f"the clips could not be decoded: {error}") from None
    _report_problems(table, stored, out, config)
    kept = np.flatnonzero(stored.samples > 0)
    table, stored = checked(table.take(pa.array(kept))), stored.keep(kept)
    log.info(f"{counted(table)}; {stored.samples.sum() / rate / 3600:.2f} h")

    started = time.monotonic()
    try:
        result = _fit(config, table, stored, scaling, out)
    except TrainingFailedError as error:
        raise Stopped(f"{_why(error)}\nerror: the training failed, after its last checkpoint") from None
    if result.return_value is not None:
        raise InputError(result.return_value)
    best = save_best(config, table, result, out, command, decides, held_out)
    results = {"best": best, "clips": len(table), "rejects": len(stored.problems)}
    run |= {"status": "complete", "wall_s": time.monotonic() - started} | results
    out.write_json(RUN, run)
    return TrainResult(out, run)


def summary(result: TrainResult) -> str:
    """The summary printed at the end: the epoch, its metrics, how to use the model."""
    best = result.best
    shown = [f"{n.replace('_', ' ')} {value:.1%}" for n, value in best.items() if n.startswith("dev_")]
    epoch = f"epoch {int(best['epoch'])}" if shown else f"the last epoch, {int(best['epoch'])},"
    use = f"--{result.record['config']['task']}"
    measured = ", ".join(shown) or "not evaluated, without dev clips"
    return (
        f"{epoch} is in {result.out.uri}: {measured}\n"
        f"use:  zsfuse score --input ARCHIVE --output OUT {use} {result.out.uri}"
    )


def scaling_for(config: TrainConfig, resources: Mapping[str, float]) -> ScalingConfig:
    """The resources to request from Ray Train; InputError if the cluster is too small."""
    fewest, most = config.workers[0], config.workers[-1]
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if resources.get("GPU", 0) else 0.0
    wanted = {"CPU": config.cpus_per_worker, "GPU": gpus}
    for kind, each in wanted.items():
        if each * fewest > resources.get(kind, 0):
            name = {"CPU": "logical CPUs", "GPU": "GPUs"}[kind]
            raise InputError(
                f"{fewest} workers need {each * fewest:g} {name}, the cluster has "
                f"{resources.get(kind, 0):g}; lower --workers or --{kind.lower()}s-per-worker"
            )
    return ScalingConfig(
        num_workers=fewest if fewest == most else (fewest, most),
        use_gpu=gpus > 0,
        resources_per_worker={kind: each for kind, each in wanted.items() if each},
    )


def _fit(
    config: TrainConfig, table: pa.Table, stored: StoredClips, scaling: ScalingConfig, out: Output
) -> ray.train.Result:
    # Workers keep the driver's working directory, for relative paths in manifests and options.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    watcher = start_watcher()
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "table": table, "stored": stored, "watcher": watcher},
        scaling_config=scaling,
        run_config=RunConfig(
            name=STORAGE,  # the same name and place: Ray Train resumes from the last checkpoint there
            storage_path=out.root,
            storage_filesystem=out.fs,
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute=RANK),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    with out.as_folder(CURVES) as curves, Screen(watcher, config.epochs, curves):
        # In the main thread Ray Train would handle SIGINT: it ends the process late, with code 0.
        return ThreadPoolExecutor(1).submit(trainer.fit).result()


def save_best(
    config: TrainConfig,
    table: pa.Table,
    result: ray.train.Result,
    out: Output,
    command: str,
    decides: Mapping[str, Any],
    held_out: HeldOut,
) -> dict[str, float]:
    """Write the best epoch's model and card to the output folder; returns that epoch's metrics."""
    best, reported = max(result.best_checkpoints or [], key=lambda checkpoint: checkpoint[1][RANK])
    figures = {name: value for name, value in reported.items() if name != RANK}
    state = load_state(best)
    task = task_class(config)(config, table)
    restore(task.module, state["weights"])
    restore(task.module, state["average"])
    with out.as_folder() as folder:
        task.save(folder, figures)
    history = load_state(result.checkpoint)["progress"]["history"]  # the last one: the best may be earlier
    shown = {
        name: value for name, value in decides.items() if config.task == "fusion" or name not in OF_FUSION
    }
    text = card(task.card(), table, history, figures, command, shown, versions(), licences(), held_out)
    out.write_bytes(CARD, text.encode())
    out.write_json(METRICS, {"best": figures, "epochs": history})
    return figures


def _report_problems(table: pa.Table, stored: StoredClips, out: Output, config: TrainConfig) -> None:
    """Write the list of unreadable clips; RunError if there are too many."""
    if not stored.problems:
        return
    uris = table["uri"].to_pylist()
    rows = [{"uri": redact(uris[row]), "problem": text} for row, text in sorted(stored.problems.items())]
    place = write_rejects(out, rows)
    share = len(rows) / len(table)
    log.warning(
        f"{len(rows)} of {len(table)} clips could not be read and are left out ({place}); first error: "
        f"{rows[0]['problem']}"
    )
    if share > config.max_reject_rate:
        raise RunError(f"error: {share:.1%} unreadable, above --max-reject-rate {config.max_reject_rate:.1%}")


def _why(error: TrainingFailedError) -> str:
    """The workers' errors, if Ray reports them."""
    failures = getattr(error, "worker_failures", None) or {}
    lines = {f"worker {rank}: {str(cause).strip()}" for rank, cause in failures.items()}
    return "\n".join(sorted(lines)) or str(error)


def _placed(start: str) -> str:
    """--init or --text without its family, which its config.json names; a folder as an absolute path.

    Workers may run in another working directory than the driver.
    """
    family, colon, rest = start.partition(":")
    start = rest if colon and family in MODELS else start
    return (
        os.path.abspath(os.path.expanduser(start))
        if start and os.path.isdir(os.path.expanduser(start))
        else start
    )
