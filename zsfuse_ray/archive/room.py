"""Load models before a run where there is room for them: in a task where Ray runs, else here."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ray
import ray.exceptions

from zsfuse_ray.archive.describe import Prompts, load_models
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec

T = TypeVar("T")


def look_at_models(
    specs: Mapping[str, ModelSpec],
    known: Mapping[str, dict[str, Any]],
    prompted: str | None = None,
    config: ScoreConfig | None = None,
) -> tuple[dict[str, dict[str, Any]], Prompts | None]:
    """Facts of each model (what run.json records of it, sizes of outputs), and the prompts of one of them.

    Loads each model once that is not `known` or is `prompted`, the ALM that embeds the prompts of the config:
    in a Ray task where Ray runs, else here. InputError where a checkpoint is not what its family expects, or
    is of another revision than its facts.
    """
    needed = {key: spec for key, spec in specs.items() if key not in known or key == prompted}
    if not needed:
        return dict(known), None
    loaded, prompts = where_there_is_room(load_models, needed, prompted, config)
    for key in loaded.keys() & known.keys():
        then, now = known[key]["revision"], loaded[key]["revision"]
        if then != now:
            was = f"{known[key]['model']} of revision {then}"
            raise InputError(
                f"--{kind_of(key)} {specs[key]} is of revision {now} now; what is encoded is by {was}"
            )
    return {**loaded, **known}, prompts


def where_there_is_room(work: Callable[..., T], *arguments: Any, num_gpus: float = 0) -> T:
    """The result of work that loads models: in a Ray task where Ray runs, else in this process.

    num_gpus: what the task takes of a machine's GPUs.

    The InputError of a task is raised here as it is.
    """
    if not ray.is_initialized():
        return work(*arguments)
    try:
        return ray.get(ray.remote(num_cpus=1, num_gpus=num_gpus)(work).remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
