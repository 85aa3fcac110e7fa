"""Ray Tune over blocks: a trial searches one whole block, so that its overhead is small."""

import os
import time
from typing import Any, cast

import pyarrow as pa
from ray import tune
from ray.tune import ResultGrid, RunConfig, Trainable, Tuner

from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.settings import Setting
from zsfuse_ray.experiments.tune.configurations import block_of
from zsfuse_ray.experiments.tune.summary import Summary, from_table, summarise, to_table
from zsfuse_ray.method.search import Objective
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.progress import Progress

LOGS, TRIALS, BEST = "ray_tune", "trials", "best"


def file_of(folder: str, n: int, setting: Setting) -> str:
    """Path of a table of block n: TRIALS has one row per subset, BEST is the block's summary."""
    return f"{folder}/{n:04}_{setting.name}.parquet"


def search_blocks(
    evidence: Evidence, settings: list[Setting], objective: Objective, out: Output, at_once: int | None
) -> tuple[dict[int, Summary], dict[int, str]]:
    """Search every block whose tables are missing; returns summaries and errors, by block index.

    Tune's logs and state are in LOGS: the dashboard and TensorBoard show the running trials, and an
    interrupted search resumes with the missing ones. at_once: maximum number of concurrent trials.
    """
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # an interrupted search resumes from its tables
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new output prints tables even with verbose=0
    trainable = tune.with_resources(
        tune.with_parameters(BlockTrial, evidence=evidence, settings=settings, objective=objective, out=out),
        {"cpu": 1},
    )
    path = out.path(LOGS)
    if Tuner.can_restore(path, storage_filesystem=out.fs):
        tuner = Tuner.restore(
            path, trainable=trainable, resume_unfinished=True, restart_errored=True, storage_filesystem=out.fs
        )
    else:
        tuner = Tuner(
            trainable,
            param_space={"block": tune.grid_search(list(range(len(settings))))},
            tune_config=tune.TuneConfig(
                metric="score", mode="max", reuse_actors=True, max_concurrent_trials=at_once
            ),
            run_config=RunConfig(
                name=LOGS,
                storage_path=out.root,
                storage_filesystem=out.fs,
                verbose=0,
                callbacks=[_Watch(len(settings))],
            ),
        )
    results: ResultGrid = tuner.fit()
    failed = {
        int(result.config["block"]): str(result.error).strip().splitlines()[-1]
        for result in results
        if result.error is not None and result.config
    }
    done = {n: file_of(BEST, n, setting) for n, setting in enumerate(settings) if n not in failed}
    if not all(map(out.exists, done.values())):
        # tables of blocks that Tune has recorded as done were deleted: restart Tune for them
        out.delete(LOGS)
        return search_blocks(evidence, settings, objective, out, at_once)
    return {n: from_table(out.read_table(name)) for n, name in done.items()}, failed


class BlockTrial(Trainable):
    """One block per step; an actor is reused for many blocks, so that it loads its arrays once."""

    def setup(
        self,
        config: dict[str, Any],
        evidence: Evidence,
        settings: list[Setting],
        objective: Objective,
        out: Output,
    ) -> None:
        """Keep the arrays from the object store."""
        self.evidence, self.settings, self.out = evidence, settings, out
        self.objective: Objective = objective

    def step(self) -> dict[str, Any]:
        """Search the block and write its tables; returns the metrics for the dashboard and TensorBoard."""
        n = cast(dict[str, Any], self.config)["block"]
        setting = self.settings[n]
        started = time.perf_counter()
        summary = self._written(n)
        if summary is None:
            block = block_of(self.evidence, setting, self.objective)
            summary, subsets = summarise(block)
            self.out.write_table(file_of(TRIALS, n, setting), subsets)
            # the last file written marks the block as done
            self.out.write_table(file_of(BEST, n, setting), to_table(summary, block.weights))
        took = time.perf_counter() - started
        score = summary.score[-1]
        at_best = {f"score_w{w}": float(score[:, w].max()) for w in {0, score.shape[1] - 1}}
        return {
            "score": float(score.max()),
            **at_best,
            "configurations": summary.tried,
            "configurations_per_s": summary.tried / took,
            "block_name": setting.name,
            "done": True,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Switch to another block in the same process."""
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save; required by Tune for reused actors."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _written(self, n: int) -> Summary | None:
        name = file_of(BEST, n, self.settings[n])
        if not self.out.exists(name):
            return None
        try:
            return from_table(self.out.read_table(name))
        except pa.ArrowException:
            return None  # incomplete: its writer was killed


class _Watch(tune.Callback):
    """Prints the number of finished blocks."""

    def __init__(self, total: int):
        self.done, self.progress = 0, Progress("searched", total, "blocks")

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Count the block."""
        self.done += 1
        self.progress.update(self.done)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Print the final state; failed blocks do not count as finished."""
        self.progress.end(complete=self.done == self.progress.total)
