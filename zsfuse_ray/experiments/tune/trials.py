"""Ray Tune over blocks: a trial searches one whole block, so that its own cost is small beside the search."""

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
    """Where the tables of block n lie: TRIALS has a row a subset, BEST is the block's summary."""
    return f"{folder}/{n:04}_{setting.name}.parquet"


def search_blocks(
    evidence: Evidence, settings: list[Setting], objective: Objective, out: Output, at_once: int | None
) -> tuple[dict[int, Summary], dict[int, str]]:
    """Search every block without tables; returns summaries, and the errors of failed blocks, by place.

    Tune's own logs and state lie in LOGS: the dashboard and TensorBoard show the trials while they run, and
    after a stop of any kind Tune resumes with those that are missing. at_once: how many run side by side.
    """
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # a stopped search resumes by its tables
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the other one prints tables even where verbose is 0
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
        # tables of blocks that Tune has recorded as done were deleted: a new Tune takes those that are left
        out.delete(LOGS)
        return search_blocks(evidence, settings, objective, out, at_once)
    return {n: from_table(out.read_table(name)) for n, name in done.items()}, failed


class BlockTrial(Trainable):
    """One block a step; an actor takes block after block, so that it starts and gets its arrays once."""

    def setup(
        self,
        config: dict[str, Any],
        evidence: Evidence,
        settings: list[Setting],
        objective: Objective,
        out: Output,
    ) -> None:
        """Keep the arrays, which come from the object store."""
        self.evidence, self.settings, self.out = evidence, settings, out
        self.objective: Objective = objective

    def step(self) -> dict[str, Any]:
        """Search the block and write its tables; returns what the dashboard and TensorBoard show."""
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
        """Take another block in the same process."""
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing is kept between steps; Tune wants it for actors that are used again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _written(self, n: int) -> Summary | None:
        name = file_of(BEST, n, self.settings[n])
        if not self.out.exists(name):
            return None
        try:
            return from_table(self.out.read_table(name))
        except pa.ArrowException:
            return None  # written by a job that was killed meanwhile


class _Watch(tune.Callback):
    """Shows finished blocks."""

    def __init__(self, total: int):
        self.done, self.progress = 0, Progress("searched", total, "blocks")

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Count the block."""
        self.done += 1
        self.progress.update(self.done)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Show the last state; blocks that failed are not finished."""
        self.progress.end(complete=self.done == self.progress.total)
