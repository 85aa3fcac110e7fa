"""Third-party models: a class named ``package.module:Class`` instead of a family of the catalog.

The class must have the interface of the families: `kind` ("alm" or "specialist"), `about` (an `About`) and
the towers, `embed_audio` and `embed_text` of `AudioLanguageModel`, or `classify` of `Specialist`. It is
called as Class(checkpoint, device, dtype), with checkpoint "" if the name has none. The object must have the
attributes in OF_MODEL, described by these two interfaces. No base class is required.

Naming a class imports its module, so a class may be named only in an option; names read from checkpoints or
tables may only be families of the catalog, see `catalog.named_in_data`.
"""

import inspect
from importlib import import_module
from typing import Any

import torch

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.about import Kind
from zsfuse_ray.models.alm import AudioLanguageModel

OF_CLASS: dict[Kind, tuple[str, ...]] = {
    "alm": ("about", "embed_audio", "embed_text"),
    "specialist": ("about", "classify"),
}
_OF_BOTH = ("revision", "licence", "sample_rate", "window", "fill", "same_length")
OF_MODEL: dict[Kind, tuple[str, ...]] = {
    "alm": (*_OF_BOTH, "dim", "scale"),
    "specialist": (*_OF_BOTH, "labels", "vector_dim"),
}


def import_class(name: str) -> Any:
    """Return the class named "package.module:Class".

    InputError for a module that cannot be imported, and for a class that is missing or incomplete.
    """
    module, _, class_name = name.partition(":")
    try:
        content = vars(import_module(module))
    except Exception as error:  # third-party code may raise anything
        raise InputError(
            f"{name}: cannot import {module}: {_line(error)}; install it, or add its folder to PYTHONPATH"
        ) from error
    model_class = content.get(class_name)
    if not isinstance(model_class, type):
        classes = [key for key, value in content.items() if isinstance(value, type)]
        raise InputError(f"{name}: {module} has no class {class_name}{nearest(class_name, classes)}")
    kind = getattr(model_class, "kind", None)
    if kind not in OF_CLASS:
        raise InputError(f'{name}: its class attribute kind is {kind!r}, expected "alm" or "specialist"')
    abstract = getattr(model_class, "__abstractmethods__", ())
    missing = [part for part in OF_CLASS[kind] if not hasattr(model_class, part) or part in abstract]
    if missing := sorted({*missing, *abstract}):
        raise InputError(f"{name} is not a model of kind {kind}: missing {', '.join(missing)}")
    try:
        inspect.signature(model_class).bind("", "cpu", torch.float32)
    except TypeError as error:
        raise InputError(f"{name} cannot be called as Class(checkpoint, device, dtype): {error}") from error
    if kind == "alm":
        AudioLanguageModel.register(model_class)  # for isinstance, whatever it inherits from
    return model_class


def check_model(model: Any, name: str) -> None:
    """Raise InputError if a third-party model lacks an attribute that the package reads."""
    missing = [part for part in OF_MODEL[model.kind] if not hasattr(model, part)]
    if missing:
        raise InputError(f"{name} is not a model of kind {model.kind}: missing {', '.join(missing)}")


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
