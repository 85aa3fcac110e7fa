"""The run: bundles of the plan → decode → encode → fuse → one row a bundle in the output folder.

Ray Data's checkpoint remembers which bundles are written; the same command again goes on from there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.exceptions
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.checkpoint import CheckpointConfig

from zsfuse_ray.archive.cluster import Pool
from zsfuse_ray.archive.decode_stage import decode_bundles
from zsfuse_ray.archive.encode_stage import Encode, EncodeOptions
from zsfuse_ray.archive.fuse_stage import Scorer
from zsfuse_ray.archive.output import BUNDLES, CHECKPOINT, ITEMS, Output
from zsfuse_ray.archive.progress import report
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.config.models import ModelOptions
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.prompts import prompt_grid, repeat_text
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import ModelSpec, load, parse_spec
from zsfuse_ray.models.classifier import Classifier

MAX_BUNDLES_PER_BLOCK = 32
# Enough to fill a cluster and to lose little; beyond it a block, and so a file in items/, holds more bundles.
BLOCKS_WANTED = 2000


def model_specs(config: ModelOptions) -> dict[str, ModelSpec]:
    """The models a run uses, by "alm" and "specialist"."""
    kinds = ("alm", "specialist")
    return {
        kind: parse_spec(getattr(config, kind), kind) for kind in kinds if getattr(config, kind) != "none"
    }


def embed_bank(
    model: AudioLanguageModel, labels: Sequence[str], config: ModelOptions
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Return the embedded prompts (B, P, C, D), and how many were truncated by copies b of the text."""
    grid = prompt_grid(labels, config.templates, config.words)
    texts = [
        repeat_text(prompt, b, config.separator)
        for b in config.text_repeats
        for row in grid
        for prompt in row
    ]
    embeddings, cut = model.embed_text(texts)
    sizes = (len(config.text_repeats), len(grid), len(labels))
    truncated = np.reshape(cut, (sizes[0], -1)).sum(axis=1).tolist()
    bank = embeddings.numpy().reshape(*sizes, -1)
    return bank, dict(zip(map(str, config.text_repeats), truncated, strict=True))


def describe(config: ScoreConfig) -> tuple[Scorer, dict[str, Any]]:
    """Load the models once, where there is room: the run's Scorer, and what run.json says of the models.

    InputError where a checkpoint is not what its family expects, or the specialist knows none of the labels.
    """
    try:
        return ray.get(ray.remote(num_cpus=1)(_describe).remote(config))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def _describe(config: ScoreConfig) -> tuple[Scorer, dict[str, Any]]:
    about: dict[str, Any] = {}
    text, scale, specialist_labels = None, 1.0, None
    for kind, spec in model_specs(config).items():
        model = load(spec)
        about[kind] = {"model": str(spec), "revision": model.revision, "licence": model.licence}
        about[kind] |= {"sample_rate": model.sample_rate, "window": model.window, "fill": model.fill}
        if isinstance(model, Classifier):
            specialist_labels = about[kind]["labels"] = model.labels
            if not map_labels(model.labels, config.labels).any():
                raise InputError(
                    f"--specialist {spec} knows none of the labels {', '.join(config.labels)}; its own are "
                    f"{', '.join(model.labels)}"
                )
        else:
            scale = model.scale
            bank, about[kind]["prompts_truncated"] = embed_bank(model, config.labels, config)
            text = bank.reshape(-1, *bank.shape[2:])
            about[kind] |= {"prompts": len(text), "scale": scale}
    scorer = Scorer(
        labels=config.labels,
        text=text,
        scale=scale,
        audio_repeats=len(config.audio_repeats),
        specialist_labels=specialist_labels,
        ensemble=config.ensemble,
        temperature=config.temperature,
        fusion=config.fusion,
        weight=config.weight,
    )
    return scorer, about


def score_bundles(
    config: ScoreConfig,
    out: Output,
    scorer: Scorer,
    pools: list[Pool],
    n_bundles: int,
    own_cores: int | None,
    tally: Any,
) -> None:
    """Score every bundle that the checkpoint does not know yet and write its row to ``items/``.

    own_cores: cores of a machine with a Ray of our own, whose logical CPUs say nothing about them.
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
    rows = encoded(rows, config, pools)
    rows = rows.map_batches(
        partial(fuse_and_report, scorer=scorer, tally=tally),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )
    try:
        rows.write_parquet(out.path(ITEMS), filesystem=out.fs)
    finally:
        context.checkpoint_config = None


def encoded(
    rows: ray.data.Dataset, config: ModelOptions, pools: list[Pool], keep_audio: bool = False
) -> ray.data.Dataset:
    """DECODED rows → ENCODED, through each pool in turn; with the audio where a later stage needs it."""
    specs = model_specs(config)
    options = EncodeOptions(config.audio_repeats, config.long, config.crop, config.batch_s, config.precision)
    for pool in pools:
        chosen = {kind: specs[kind] if kind in pool.models else None for kind in ("alm", "specialist")}
        rows = rows.map_batches(
            Encode,
            fn_constructor_kwargs={
                **chosen,
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


def fuse_and_report(batch: pa.Table, scorer: Scorer, tally: Any) -> pa.Table:
    """The last stage: posteriors of ENCODED rows, counted for the progress line."""
    scored = scorer(batch)
    report(tally, scored)
    return scored
