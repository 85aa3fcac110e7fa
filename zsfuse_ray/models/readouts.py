"""The classifier of a specialist on its vectors, in NumPy, where possible without loading the model."""

from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.readout import Layer
from zsfuse_ray.models.catalog import MODELS, ModelSpec, load
from zsfuse_ray.models.checkpoints.find import resolve


def classifier_of(spec: ModelSpec) -> Layer:
    """Return the weight and bias of a specialist's head for normalised vectors; InputError without one."""
    family = MODELS.get(spec.family)
    if family is not None and family.normalises:
        file = resolve(spec.checkpoint).folder / "model.safetensors"
        if file.is_file():
            try:
                with safe_open(file, "numpy") as tensors:
                    weight, bias = (tensors.get_tensor(f"classifier.{name}") for name in ("weight", "bias"))
                return weight.astype(np.float32), bias.astype(np.float32)
            except SafetensorError as error:
                raise InputError(f"{spec}: {file.name} has no readable classifier: {error}") from None
    model: Any = None if family else load(spec)  # a third party's class may have one
    if (classifier := getattr(model, "classifier", None)) is None:
        raise InputError(f"{spec} has no head for normalised vectors; use --normalise none")
    return classifier
