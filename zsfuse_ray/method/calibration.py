"""Temperatures of posteriors: a single number that makes confidences match accuracy (Guo et al. 2017)."""

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.method.zeroshot import fit_temperature


def tempered(posteriors: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return posteriors (n, C) to the power 1/temperature, normalised.

    Of a softmax this is the softmax of its logits / temperature. A linear pool of two calibrated posteriors
    is under-confident (Ranjan & Gneiting 2010), so a temperature below 1 is usual after fusion.
    """
    if temperature == 1:
        return posteriors
    with np.errstate(divide="ignore"):
        powers = np.exp((np.log(posteriors) - np.log(posteriors.max(axis=1, keepdims=True))) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def fit_tempered(posteriors: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Return the temperature of `tempered` that minimises the negative log-likelihood of targets (n,)."""
    return fit_temperature(np.log(np.maximum(posteriors, 1e-30)), targets)
