"""The run: bundles of the plan → decode → encode → fuse, or pack → one row a bundle in the output folder.

Ray Data's checkpoint remembers which bundles are written; the same command again goes on from there.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.checkpoint import CheckpointConfig

from zsfuse_ray.archive.decode_stage import decode_bundles
from zsfuse_ray.archive.encode_stage import Encode, EncodeOptions, Hear
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.config.score import RunConfig
from zsfuse_ray.runs.cluster import Pool
from zsfuse_ray.runs.folder import BUNDLES, CHECKPOINT, ITEMS, Output
from zsfuse_ray.runs.progress import report

MAX_BUNDLES_PER_BLOCK = 32
# Enough to fill a cluster and to lose little; beyond it a block, and so a file in items/, holds more bundles.
BLOCKS_WANTED = 2000

# The last stage of a run, from ENCODED rows to those of items/.
Stage = Callable[[pa.Table], pa.Table]


def run_bundles(
    config: RunConfig,
    out: Output,
    stage: Stage,
    pools: list[Pool],
    n_bundles: int,
    own_cores: int | None,
    tally: Any,
    hear: Mapping[str, Hear],
) -> None:
    """Hear every bundle that the checkpoint does not know yet and write its row, as `stage` makes it.

    hear: what each model is to compute. own_cores: cores of a machine with a Ray of our own, whose logical
    CPUs say nothing about them.
    """
    if not n_bundles:  # nothing in the archive could be read; Ray Data does not take an empty table
        return
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="bundle_id",
        checkpoint_path=out.path(CHECKPOINT),
        override_filesystem=out.fs,
        delete_checkpoint_on_success=False,
    )
    per_block = min(MAX_BUNDLES_PER_BLOCK, max(1, n_bundles // BLOCKS_WANTED))
    rows = ray.data.read_parquet(out.path(BUNDLES), filesystem=out.fs)
    rows = rows.repartition(target_num_rows_per_block=per_block).map_batches(
        partial(decode_and_watch, how=config.segmentation, item_s=config.item_s, tally=tally),
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
        compute=TaskPoolStrategy(size=own_cores),
    )
    rows = encoded(rows, config, pools, hear)
    rows = rows.map_batches(
        partial(finish_and_report, stage=stage, tally=tally),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )
    try:
        rows.write_parquet(out.path(ITEMS), filesystem=out.fs)
    finally:
        context.checkpoint_config = None


def encoded(
    rows: ray.data.Dataset,
    config: EncoderOptions,
    pools: list[Pool],
    hear: Mapping[str, Hear],
    keep_audio: bool = False,
) -> ray.data.Dataset:
    """DECODED rows → ENCODED, through each pool in turn; with the audio where a later stage needs it."""
    options = EncodeOptions(config.long, config.crop, config.batch_s, config.precision)
    for pool in pools:
        rows = rows.map_batches(
            Encode,
            fn_constructor_kwargs={
                "models": {key: hear[key] for key in pool.models},
                "every": tuple(hear),
                "options": options,
                "gpu": pool.num_gpus > 0,
                "threads": pool.threads,
                "last": pool is pools[-1] and not keep_audio,
            },
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
            compute=ActorPoolStrategy(min_size=pool.min_size, max_size=pool.max_size),
        )
    return rows


def decode_and_watch(batch: pa.Table, how: Segmentation, item_s: float, tally: Any) -> pa.Table:
    """The first stage: BUNDLE rows → DECODED, with the tally told of every item begun and ended."""

    @contextmanager
    def attempt(item_id: int) -> Iterator[int]:
        yield ray.get(tally.begin.remote(item_id))
        tally.end.remote(item_id)

    return decode_bundles(batch, how, item_s, attempt)


def finish_and_report(batch: pa.Table, stage: Stage, tally: Any) -> pa.Table:
    """The last stage, counted for the progress line."""
    done = stage(batch)
    report(tally, done)
    return done
