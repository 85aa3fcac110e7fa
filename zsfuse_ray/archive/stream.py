"""One pass over the audio with Ray Data: bundles → decode → encode → one row per bundle in encoded/.

Its checkpoint records which bundles are written, so that the same command resumes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions
from pyarrow import fs as pafs
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.checkpoint import CheckpointConfig

from zsfuse_ray.archive.limit import bundle_files
from zsfuse_ray.archive.passes import Pass, ToEncode
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.stages.attempts import counted
from zsfuse_ray.audio.outages import archive_root
from zsfuse_ray.audio.redirects import allow_only
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.config.score import RunConfig
from zsfuse_ray.runs.cluster import Pool
from zsfuse_ray.runs.folder import Output

MAX_BUNDLES_PER_BLOCK = 32
# Enough to fill a cluster and to lose little on a failure; with more bundles, blocks and so files are larger.
BLOCKS_WANTED = 2000


def run_pass(
    config: RunConfig,
    out: Output,
    plan: Plan,
    one: Pass,
    tasks: Mapping[str, ToEncode],
    pools: list[Pool],
    own_cores: int | None,
    tally: Any,
) -> None:
    """Encode every bundle of a pass that is not in its checkpoint yet.

    tasks: what each model is to compute. own_cores: cores of this machine with a local Ray, whose logical
    CPUs do not correspond to them. Files are partitioned by part of the plan.
    """
    n_bundles = sum(plan.increments[n].bundles for n in one.increments)
    per_block = min(MAX_BUNDLES_PER_BLOCK, max(1, n_bundles // BLOCKS_WANTED))
    # names below the output folder: Ray takes some letters of a whole path for those of a URI
    inside = pafs.SubTreeFileSystem(out.root, out.fs)
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="bundle_id",
        checkpoint_path=one.checkpoint,
        override_filesystem=inside,
        delete_checkpoint_on_success=False,
    )
    ray.get(tally.keep.remote(out, one.attempts))
    try:
        rows = ray.data.read_parquet(bundle_files(plan, one), filesystem=inside)
        rows = rows.repartition(target_num_rows_per_block=per_block)
        root = archive_root(config.input)
        hosts = config.allow_hosts
        rows = decoded(rows, config.segmentation, config.item_s, own_cores, tally, root, hosts)
        rows = encoded(rows, config, pools, tasks, tally=tally)
        rows.write_parquet(one.path, filesystem=inside, partition_cols=["part"])
        ray.get(tally.settle.remote())
    finally:
        context.checkpoint_config = None


def decoded(
    rows: ray.data.Dataset,
    how: Segmentation,
    item_s: float,
    own_cores: int | None,
    tally: Any,
    root: str | None = None,
    allow_hosts: Sequence[str] = (),
) -> ray.data.Dataset:
    """BUNDLE rows → DECODED, one task per core. root, allow_hosts: as in `decode_bundles` and `probe_all`."""
    return rows.map_batches(
        partial(_decode_and_watch, how=how, item_s=item_s, tally=tally, root=root, allow_hosts=allow_hosts),
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
        compute=TaskPoolStrategy(size=own_cores),
    )


def encoded(
    rows: ray.data.Dataset,
    config: EncoderOptions,
    pools: list[Pool],
    tasks: Mapping[str, ToEncode],
    keep_audio: bool = False,
    tally: Any = None,
) -> ray.data.Dataset:
    """DECODED rows → `encoded_schema`, through each pool in turn; keep_audio: keep it for a later stage."""
    options = (config.long, config.crop, config.batch_s, config.precision)
    for pool in pools:
        rows = rows.map_batches(
            _Encoder,
            fn_constructor_kwargs={
                "models": {key: tasks[key] for key in pool.models},
                "every": tuple(tasks),
                "options": options,
                "gpu": pool.num_gpus > 0,
                "threads": pool.threads,
                "last": pool is pools[-1],
                "keep_audio": keep_audio,
                "tally": tally,
            },
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
            compute=ActorPoolStrategy(min_size=pool.min_size, max_size=pool.max_size),
        )
    return rows


class _Encoder:
    """Actor with an `Encode`, imported there: torch costs a driver seconds and 700 MB."""

    def __init__(self, options: tuple[Any, ...], **others: Any) -> None:
        from zsfuse_ray.archive.stages.encode import Encode, EncodeOptions

        self.encode = Encode(options=EncodeOptions(*options), **others)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self.encode(batch)


def _decode_and_watch(
    batch: pa.Table,
    how: Segmentation,
    item_s: float,
    tally: Any,
    root: str | None,
    allow_hosts: Sequence[str] = (),
) -> pa.Table:
    """BUNDLE rows → DECODED; reports the start and end of every item to the tally."""
    allow_only(allow_hosts)
    from zsfuse_ray.archive.stages.decode import decode_bundles  # lazy: imports torch, as _Encoder does

    return decode_bundles(batch, how, item_s, counted(tally), root)
