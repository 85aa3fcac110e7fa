"""Emotion labels with honest probabilities for archives of speech: ZS-Fuse on Ray."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsfuse_ray.api import Labeller

__version__ = "0.1.0"
__all__ = ["Labeller", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Labeller":  # on first use: torch and the models take seconds to import
        return import_module("zsfuse_ray.api").Labeller
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
