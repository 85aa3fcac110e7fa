"""What a reference made of the clips of `real_clips` with seeded weights, and the checkpoint of these."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from seeded_weights import seeded_state

_FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, NDArray]:
    """Return the arrays of a golden file; `config` and `shapes` are JSON."""
    with np.load(_FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def write_checkpoint(
    folder: Path, config: str, shapes: str, factors: Mapping[str, float] | None = None
) -> Path:
    """Write the reference's config.json and seeded weights, some multiplied, under the reference's names."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    save_file(golden_weights(shapes, factors), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def golden_weights(shapes: str, factors: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
    state = seeded_state(json.loads(shapes), 0)
    for name, factor in (factors or {}).items():
        state[name] *= factor
    return state
