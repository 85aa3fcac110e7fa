"""Load models before a run where memory allows: in a Ray task if Ray is running, else in this process."""

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
    """Facts of each model (those in run.json, sizes of outputs), and the embedded prompts of one of them.

    Loads, once, each model that is not `known` or is `prompted`, the ALM that embeds the config's prompts: in
    a Ray task if Ray is running, else in this process. InputError if a checkpoint is not what its family
    expects, or its revision differs from that in its facts.
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
                f"--{kind_of(key)} {specs[key]} now has revision {now}, but encoded/ is by {was}; "
                "use that checkpoint or encode again"
            )
    return {**loaded, **known}, prompts


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
