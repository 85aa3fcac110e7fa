"""The models of a run: what run.json records of them, and the labels and prompts they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import ray
import ray.exceptions
from numpy.typing import NDArray

from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.config.models import EncoderOptions, ModelOptions
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labelling import Labelling
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.prompts import prompt_grid, repeat_text
from zsfuse_ray.models.catalog import UNTRAINED, ModelSpec, load, parse_spec, revision_of, split_name

if TYPE_CHECKING:
    from zsfuse_ray.models.alm import AudioLanguageModel

T = TypeVar("T")


def model_specs(config: EncoderOptions) -> dict[str, ModelSpec]:
    """The models a run names: "alm" and "specialist", and of several of a kind "alm2" …"""
    return {key: parse_spec(name, kind_of(key)) for key, name in config.models.items()}


def is_model(spec: ModelSpec, facts: Mapping[str, Any]) -> bool:
    """Whether these facts are of this model: of its revision, wherever it may lie.

    InputError where the checkpoint is not there.
    """
    if spec.checkpoint == UNTRAINED:
        return str(spec) == facts["model"]
    family, _ = split_name(facts["model"])
    return family == spec.family and revision_of(spec) == facts["revision"]


def where_there_is_room(work: Callable[..., T], *arguments: Any) -> T:
    """The result of work that loads models: as a task where Ray runs and finds room for it, else here.

    The task's process ends with it: what a model takes is not kept for whatever runs there next.
    """
    if not ray.is_initialized():
        return work(*arguments)
    try:
        return ray.get(ray.remote(num_cpus=1, max_calls=1)(work).remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def describe_models(specs: Mapping[str, ModelSpec]) -> dict[str, dict[str, Any]]:
    """Load each model once: what run.json records of it, and the sizes of its outputs.

    InputError where a checkpoint is not what its family expects.
    """
    return {key: _facts(spec, load(spec)) for key, spec in specs.items()}


def _facts(spec: ModelSpec, model: Any) -> dict[str, Any]:
    facts = {"model": str(spec), "revision": model.revision, "licence": model.licence}
    facts |= {"sample_rate": model.sample_rate, "window": model.window, "fill": model.fill}
    if model.kind == "alm":
        return facts | {"dim": model.dim, "scale": model.scale}
    return facts | {"labels": list(model.labels), "vector_dim": model.vector_dim}


def embed_bank(
    model: "AudioLanguageModel", labels: Sequence[str], config: ModelOptions
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


def make_labelling(
    config: ScoreConfig, alm: ModelSpec | None, facts: Mapping[str, Mapping[str, Any]]
) -> tuple[Labelling, dict[str, Any]]:
    """How outputs of the models ("alm", "specialist") with these facts become labels; facts of the prompts.

    Of the models only the ALM is loaded, for its text encoder. InputError where its weights are not those of
    the facts, or the specialist has none of the labels.
    """
    specialist = facts.get("specialist")
    if specialist is not None:
        check_labels(str(specialist["model"]), config.labels, specialist["labels"])
    text, scale, prompts = None, 1.0, {}
    if alm is not None:
        bank, truncated, scale, revision = where_there_is_room(_embed_prompts, alm, config)
        if revision != facts["alm"]["revision"]:
            was = f"{facts['alm']['model']} of revision {facts['alm']['revision']}"
            raise InputError(f"--alm {alm} is of revision {revision} now; what is encoded is by {was}")
        text = bank.reshape(-1, *bank.shape[2:])
        prompts = {"prompts_truncated": truncated, "prompts": len(text)}
    labelling = Labelling(
        labels=config.labels,
        text=text,
        scale=scale,
        specialist_labels=tuple(specialist["labels"]) if specialist else None,
        ensemble=config.ensemble,
        temperature=config.temperature,
        fusion=config.fusion,
        weight=config.weight,
    )
    return labelling, prompts


def _embed_prompts(
    alm: ModelSpec, config: ScoreConfig
) -> tuple[NDArray[np.float32], dict[str, int], float, str | None]:
    model: Any = load(alm)
    return *embed_bank(model, config.labels, config), model.scale, model.revision


def check_labels(specialist: str, labels: Sequence[str], own: Sequence[str]) -> None:
    """InputError where a specialist has none of the labels."""
    if not map_labels(own, labels).any():
        raise InputError(
            f"--specialist {specialist} knows none of the labels {', '.join(labels)}; "
            f"its own are {', '.join(own)}"
        )
