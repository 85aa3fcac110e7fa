"""Heads of a model on pooled vectors, in NumPy: labelling applies them to normalised vectors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from zsfuse_ray.method.products import row_products

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (out, in), bias (out,)


@dataclass(frozen=True, eq=False)
class Readout:
    """classifier: the specialist's; projection: the ALM's layers on the same vectors, with GELU between.

    None for a model that is not used, or that reads other vectors.
    """

    classifier: Layer | None
    projection: tuple[Layer, Layer] | None

    def logits(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the logits (n, S) of vectors (n, V)."""
        assert self.classifier is not None
        return _linear(vectors, self.classifier)

    def embeddings(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the normalised embeddings (n, D) of vectors (n, V)."""
        assert self.projection is not None
        hidden = _linear(vectors, self.projection[0])
        hidden = hidden * (0.5 * (1 + erf(hidden / np.sqrt(2)))).astype(hidden.dtype)
        rows = _linear(hidden, self.projection[1])
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _linear(vectors: NDArray[np.floating], layer: Layer) -> NDArray[np.floating]:
    weight, bias = layer
    return row_products(vectors, weight.T) + bias
