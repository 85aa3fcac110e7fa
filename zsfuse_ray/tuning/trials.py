"""Ray Tune over blocks: a trial searches one whole block, so that what a trial costs is nothing beside it."""

import os
import sys
import time
from typing import Any, cast

import pyarrow as pa
from ray import tune
from ray.tune import ResultGrid, RunConfig, Trainable, Tuner

from zsfuse_ray.runs.folder import Output
from zsfuse_ray.tuning.evidence import Evidence, Space, block
from zsfuse_ray.tuning.summary import Summary, from_table, summarise, to_table

LOGS, TRIALS, BEST = "ray_tune", "trials", "best"


def file_of(folder: str, n: int, space: Space) -> str:
    """Where the tables of block n lie: TRIALS has a row a subset, BEST is the block's summary."""
    return f"{folder}/{n:04}_{space.name}.parquet"


def search_blocks(
    evidence: Evidence, spaces: list[Space], out: Output, at_once: int | None
) -> tuple[dict[int, Summary], dict[int, str]]:
    """Search every block that has no tables yet; returns summaries, and why blocks failed, by their place.

    Tune's own logs and state lie in LOGS: the dashboard and TensorBoard show the trials while they run, and
    after a stop of any kind Tune goes on with those that are missing. at_once: how many run side by side.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the other one prints tables even where verbose is 0
    trainable = tune.with_resources(
        tune.with_parameters(BlockTrial, evidence=evidence, spaces=spaces, out=out), {"cpu": 1}
    )
    path = out.path(LOGS)
    if Tuner.can_restore(path, storage_filesystem=out.fs):
        tuner = Tuner.restore(
            path, trainable=trainable, resume_unfinished=True, restart_errored=True, storage_filesystem=out.fs
        )
    else:
        tuner = Tuner(
            trainable,
            param_space={"block": tune.grid_search(list(range(len(spaces))))},
            tune_config=tune.TuneConfig(
                metric="score", mode="max", reuse_actors=True, max_concurrent_trials=at_once
            ),
            run_config=RunConfig(
                name=LOGS,
                storage_path=out.root,
                storage_filesystem=out.fs,
                verbose=0,
                callbacks=[_Progress(len(spaces))],
            ),
        )
    results: ResultGrid = tuner.fit()
    failed = {
        int(result.config["block"]): str(result.error).strip().splitlines()[-1]
        for result in results
        if result.error is not None and result.config
    }
    done = {n: file_of(BEST, n, space) for n, space in enumerate(spaces) if n not in failed}
    if not all(map(out.exists, done.values())):
        # Somebody took tables away that Tune remembers as done: it has to begin anew, with what there is.
        out.delete(LOGS)
        return search_blocks(evidence, spaces, out, at_once)
    return {n: from_table(out.read_table(name)) for n, name in done.items()}, failed


class BlockTrial(Trainable):
    """One block a step; the actor goes on with the next one, so that it starts and gets its arrays once."""

    def setup(self, config: dict[str, Any], evidence: Evidence, spaces: list[Space], out: Output) -> None:
        """Keep the arrays, which come from the object store."""
        self.evidence, self.spaces, self.out = evidence, spaces, out

    def step(self) -> dict[str, Any]:
        """Search the block and write its tables; returns what the dashboard and TensorBoard show."""
        n = cast(dict[str, Any], self.config)["block"]
        space = self.spaces[n]
        started = time.perf_counter()
        summary = self._known(n)
        if summary is None:
            searched = block(self.evidence, space)
            summary, subsets = summarise(searched)
            self.out.write_table(file_of(TRIALS, n, space), subsets)
            # the last file written is what says that the block is done
            self.out.write_table(file_of(BEST, n, space), to_table(summary, searched.weights))
        took = time.perf_counter() - started
        score = summary.score[-1]
        at_best = {f"score_w{w}": float(score[:, w].max()) for w in {0, score.shape[1] - 1}}
        return {
            "score": float(score.max()),
            **at_best,
            "configurations": summary.tried,
            "configurations_per_s": summary.tried / took,
            "block_name": space.name,
            "done": True,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another block in the same process."""
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing is kept between steps; Tune wants it for actors that are used again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _known(self, n: int) -> Summary | None:
        name = file_of(BEST, n, self.spaces[n])
        if not self.out.exists(name):
            return None
        try:
            return from_table(self.out.read_table(name))
        except pa.ArrowException:
            return None  # written by a job that was killed meanwhile


class _Progress(tune.Callback):
    """A line on stderr for finished blocks, every few seconds."""

    def __init__(self, total: int):
        self.total, self.done, self.tried, self.best = total, 0, 0, float("-inf")
        self.started = self.told = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Count the block, and tell."""
        self.done += 1
        self.tried += result["configurations"]
        self.best = max(self.best, result["score"])
        if time.monotonic() - self.told > 10 or self.done == self.total:
            self.told = time.monotonic()
            rate = self.tried / (self.told - self.started)
            line = (
                f"  {self.done} of {self.total} blocks, {self.tried:,} configurations ({rate:,.0f} a second)"
            )
            print(f"{line}, best in-sample {self.best:.4f}", file=sys.stderr, flush=True)
