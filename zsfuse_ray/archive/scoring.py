"""The run: bundles of the plan → decode → encode → fuse, or pack → one row a bundle in the output folder.

Ray Data's checkpoint remembers which bundles are written; the same command again goes on from there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from zsfuse_ray.archive.encode_stage import Encode, EncodeOptions, Hear
from zsfuse_ray.archive.fuse_stage import Scorer
from zsfuse_ray.archive.output import BUNDLES, CHECKPOINT, ITEMS, Output
from zsfuse_ray.archive.progress import report
from zsfuse_ray.archive.rows import kind_of
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.config.models import EncoderOptions, ModelOptions
from zsfuse_ray.config.score import RunConfig, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.prompts import prompt_grid, repeat_text
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import UNTRAINED, ModelSpec, load, parse_spec
from zsfuse_ray.models.checkpoints import resolve
from zsfuse_ray.models.encoding import Specialist

MAX_BUNDLES_PER_BLOCK = 32
# Enough to fill a cluster and to lose little; beyond it a block, and so a file in items/, holds more bundles.
BLOCKS_WANTED = 2000

# The last stage of a run, from ENCODED rows to those of items/.
Stage = Callable[[pa.Table], pa.Table]


def model_specs(config: EncoderOptions) -> dict[str, ModelSpec]:
    """The models a run uses, by their names in tables: "alm", "specialist", and of several "alm2" …"""
    return {key: parse_spec(name, kind_of(key)) for key, name in config.models.items()}


def is_model(spec: ModelSpec, about: Mapping[str, Any]) -> bool:
    """Whether run.json speaks of this model: of its revision, wherever it may lie.

    InputError where the checkpoint is not there.
    """
    if spec.checkpoint == UNTRAINED:
        return str(spec) == about["model"]
    family, _, _ = about["model"].partition(":")
    return family == spec.family and resolve(spec.checkpoint).revision == about["revision"]


def hearing(config: EncoderOptions) -> dict[str, Hear]:
    """What each model of a run is to compute, with nothing known before."""
    return {key: Hear(spec, config.audio_repeats) for key, spec in model_specs(config).items()}


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
    return _where_there_is_room(_describe, config)


def describe_models(hear: Mapping[str, Hear]) -> dict[str, Any]:
    """Load each model once, where there is room: what run.json says of it, and the size of what it gives.

    InputError where a checkpoint is not what its family expects.
    """
    return _where_there_is_room(_describe_models, hear)


def _where_there_is_room(work: Callable[[Any], Any], wanted: Any) -> Any:
    try:
        return ray.get(ray.remote(num_cpus=1)(work).remote(wanted))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def _describe(config: ScoreConfig) -> tuple[Scorer, dict[str, Any]]:
    about: dict[str, Any] = {}
    text, scale, specialist_labels = None, 1.0, None
    for kind, spec in model_specs(config).items():
        model = load(spec)
        about[kind] = _about(spec, model)
        if isinstance(model, AudioLanguageModel):
            scale = model.scale
            text, about_prompts = prompts(model, config)
            about[kind] |= about_prompts | {"scale": scale}
        else:
            specialist_labels = about[kind]["labels"] = model.labels
            check_labels(config, model.labels)
    return make_scorer(config, text, scale, specialist_labels), about


def _describe_models(hear: Mapping[str, Hear]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for key, wanted in hear.items():
        model = load(wanted.spec)
        about[key] = _about(wanted.spec, model)
        if isinstance(model, AudioLanguageModel):
            about[key] |= {"dim": model.dim, "scale": model.scale, "audio_repeats": wanted.audio_repeats}
        else:
            about[key]["labels"] = model.labels
    return about


def _about(spec: ModelSpec, model: AudioLanguageModel | Specialist) -> dict[str, Any]:
    about = {"model": str(spec), "revision": model.revision, "licence": model.licence}
    return about | {"sample_rate": model.sample_rate, "window": model.window, "fill": model.fill}


def check_labels(config: ScoreConfig, known: Sequence[str]) -> None:
    """InputError where a specialist of these labels knows none of the run's."""
    if not map_labels(known, config.labels).any():
        raise InputError(
            f"--specialist {model_specs(config)['specialist']} knows none of the labels "
            f"{', '.join(config.labels)}; its own are {', '.join(known)}"
        )


def prompts(model: AudioLanguageModel, config: ScoreConfig) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The embedded prompts of all text repeats (P, C, D), and what run.json says of them."""
    bank, truncated = embed_bank(model, config.labels, config)
    text = bank.reshape(-1, *bank.shape[2:])
    return text, {"prompts_truncated": truncated, "prompts": len(text)}


def make_scorer(
    config: ScoreConfig,
    text: NDArray[np.float32] | None,
    scale: float,
    specialist_labels: Sequence[str] | None,
) -> Scorer:
    """The Scorer of a run whose ALM, if any, gave these prompts, and whose specialist knows these labels."""
    return Scorer(
        labels=config.labels,
        text=text,
        scale=scale,
        audio_repeats=len(config.audio_repeats),
        specialist_labels=None if specialist_labels is None else tuple(specialist_labels),
        ensemble=config.ensemble,
        temperature=config.temperature,
        fusion=config.fusion,
        weight=config.weight,
    )


def run_bundles(
    config: RunConfig,
    out: Output,
    stage: Stage,
    pools: list[Pool],
    n_bundles: int,
    own_cores: int | None,
    tally: Any,
    hear: Mapping[str, Hear] | None = None,
) -> None:
    """Hear every bundle that the checkpoint does not know yet and write its row, as `stage` makes it.

    hear: what each model is to compute, by default all of the configuration's. own_cores: cores of a machine
    with a Ray of our own, whose logical CPUs say nothing about them.
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
    rows = encoded(rows, config, pools, hear or hearing(config))
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
