"""Load models before a run where memory allows: in a Ray task if Ray is running, else in this process."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import ray
import ray.exceptions

from zsfuse_ray.archive.describe import Loaded, load_models
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec

T = TypeVar("T")


def look_at_models(
    specs: Mapping[str, ModelSpec],
    known: Mapping[str, dict[str, Any]],
    keys: Mapping[str, str] | None = None,
    config: ScoreConfig | None = None,
) -> Loaded:
    """Facts of each model (for run.json, sizes of outputs), and prompts and heads of the models that label.

    keys: the models that label, by kind. Loads, once, each model that is not `known` or that the config
    needs, the ALM for its prompts and with --normalise the specialist for its head: in a Ray task if Ray is
    running, else in this process. InputError if a checkpoint is not what its family expects, or its revision
    differs from that in its facts.
    """
    again = set()
    if keys and config:
        again = {keys.get("alm"), keys.get("specialist") if config.normalise != "none" else None}
    needed = {key: spec for key, spec in specs.items() if key not in known or key in again}
    if not needed:
        return Loaded(dict(known))
    loaded = where_there_is_room(load_models, needed, keys, config)
    for key in loaded.facts.keys() & known.keys():
        then, now = known[key]["revision"], loaded.facts[key]["revision"]
        if then != now:
            was = f"{known[key]['model']} of revision {then}"
            raise InputError(
                f"--{kind_of(key)} {specs[key]} now has revision {now}, but encoded/ is by {was}; "
                "use that checkpoint or encode again"
            )
    return replace(loaded, facts={**loaded.facts, **known})


def where_there_is_room(work: Callable[..., T], *arguments: Any, num_gpus: float = 0) -> T:
    """The result of work that loads models: in a Ray task if Ray is running, else in this process.

    num_gpus: GPUs of the task. An InputError in a task is raised here unchanged.
    """
    if not ray.is_initialized():
        return work(*arguments)
    try:
        return ray.get(ray.remote(num_cpus=1, num_gpus=num_gpus)(work).remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
