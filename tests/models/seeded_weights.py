"""Weights determined by a seed, their names and shapes: identical here and in a run of a reference."""

import math
from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import torch


def seeded_state(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, torch.Tensor]:
    """Return float32 weights by name, scaled so that layers approximately preserve variance."""
    state = {}
    for name, shape in shapes.items():
        values = np.random.default_rng([seed, crc32(name.encode())]).standard_normal(tuple(shape))
        if len(shape) > 1:
            values /= math.sqrt(math.prod(shape[1:]))
        elif name.endswith(("weight", "running_var")):  # of normalisations
            values = 1 + 0.1 * np.tanh(values)
        else:
            values *= 0.1
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state
