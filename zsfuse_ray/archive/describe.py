"""The models of a run: which, what they are asked, and what run.json says of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray
import ray.exceptions
from numpy.typing import NDArray

from zsfuse_ray.archive.encode_stage import Hear
from zsfuse_ray.archive.fuse_stage import Scorer
from zsfuse_ray.archive.rows import kind_of
from zsfuse_ray.config.models import EncoderOptions, ModelOptions
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.prompts import prompt_grid, repeat_text
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import UNTRAINED, ModelSpec, load, parse_spec, revision_of, split_name
from zsfuse_ray.models.specialist import Specialist


def model_specs(config: EncoderOptions) -> dict[str, ModelSpec]:
    """The models a run uses, by their names in tables: "alm", "specialist", and of several "alm2" …"""
    return {key: parse_spec(name, kind_of(key)) for key, name in config.models.items()}


def revisions(config: EncoderOptions) -> dict[str, str | None]:
    """Revision of each checkpoint; InputError where one is not there or not reachable."""
    return {kind: revision_of(spec) for kind, spec in model_specs(config).items()}


def is_model(spec: ModelSpec, about: Mapping[str, Any]) -> bool:
    """Whether run.json speaks of this model: of its revision, wherever it may lie.

    InputError where the checkpoint is not there.
    """
    if spec.checkpoint == UNTRAINED:
        return str(spec) == about["model"]
    family, _ = split_name(about["model"])
    return family == spec.family and revision_of(spec) == about["revision"]


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
