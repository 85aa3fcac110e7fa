"""Sizes of a network, inferred from the shapes of its weights: a single file of weights has no config."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from zsfuse_ray.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


class Sizes:
    """The shapes of the weights whose names begin with a prefix. name, family: for messages."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, family: str, prefix: str = ""):
        self._weights, self._prefix = weights, prefix
        self._problem = f"{name}: not a valid {family} checkpoint"

    def of(self, key: str, dimensions: int) -> tuple[int, ...]:
        """Return a weight's shape; InputError if it is missing, empty, or of other dimensions."""
        weight = self._weights.get(self._prefix + key)
        if weight is None:
            raise InputError(f"{self._problem}: missing {self._prefix}{key}")
        if weight.ndim != dimensions or not weight.numel():
            raise InputError(
                f"{self._problem}: {self._prefix}{key} has shape {list(weight.shape)}, "
                f"expected {dimensions} dimensions"
            )
        return tuple(weight.shape)

    def has(self, key: str) -> bool:
        """Return whether there is such a weight."""
        return self._prefix + key in self._weights

    def count(self, pattern: str) -> int:
        """Return the number of weights named by the pattern with 0, 1, 2, … in its braces."""
        number = 0
        while self.has(pattern.format(number)):
            number += 1
        return number

    def parts(self, prefix: str) -> int:
        """Return the number of parts, numbered after the prefix, that have weights."""
        return len({name.partition(".")[0] for name in part_of(self._weights, self._prefix + prefix)})

    def split(self, channels: int, width: int) -> int:
        """Return the number of groups of this width in the channels; InputError if it is not an integer."""
        if channels % width:
            raise InputError(f"{self._problem}: {channels} channels, expected a multiple of {width}")
        return channels // width

    def build(self, make: Callable[[], Network]) -> Network:
        """Return the network built by `make`, with uninitialised weights."""
        try:
            with torch.device("meta"):
                network = make()
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            raise InputError(f"{self._problem}: inconsistent sizes: {error}") from error
        return network.to_empty(device="cpu")


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names begin with the prefix, with the prefix removed."""
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
