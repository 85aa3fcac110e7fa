"""Zero-shot classification with a dual encoder: cosine scores, prompt ensembles, temperature."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.products import row_products

# Averaged over the prompt bank: text embeddings (renormalised), scores, or posteriors.
Ensemble = Literal["embedding", "logit", "probability"]
# Zero-shot scores that a trained fusion reads: cosines, cosines times the logit scale, or their softmax.
Scores = Literal["cosine", "logit", "posterior"]

TEMPERATURES = (1e-3, 1e3)  # valid ones; beyond them posteriors are 0 and 1, or uniform


def softmax(x: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Return the softmax in float64, stable for any finite scores."""
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def scores(
    audio: ArrayLike, text: ArrayLike, scale: float, ensemble: Ensemble = "embedding"
) -> NDArray[np.float64]:
    """Return zero-shot scores (n, C), scale times cosine, aggregated over prompts.

    audio: (n, D), or (n, A, D) for A amplified inputs per clip, whose scores are averaged. text: (P, C, D),
    P prompts per label. Both normalised. `probability` averages posteriors and therefore has no scores.
    """
    if ensemble not in ("embedding", "logit"):
        raise ValueError(f'ensemble "{ensemble}" has no scores; posterior() computes it')
    mean = np.asarray(text, dtype=np.float64).mean(axis=0)
    if ensemble == "embedding":
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    # The score is linear in both embeddings, so averaging embeddings averages scores.
    return row_products(scale * _mean_input(audio), mean.T)


def posterior(
    audio: ArrayLike,
    text: ArrayLike,
    scale: float,
    ensemble: Ensemble = "embedding",
    temperature: float = 1.0,
) -> NDArray[np.float64]:
    """Return the ALM posterior (n, C): softmax(scores / temperature), see `scores` for the arguments.

    `probability` averages the prompts' posteriors; the scores of amplified inputs are averaged before that.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, not {temperature}")
    if ensemble != "probability":
        return softmax(scores(audio, text, scale, ensemble) / temperature)
    clip = scale / temperature * _mean_input(audio)
    text = np.asarray(text, dtype=np.float64)
    total = np.zeros((len(clip), text.shape[1]))
    for prompts in text:  # one prompt at a time: (n, P, C) would not fit for an archive
        total += softmax(row_products(clip, prompts.T))
    return total / len(text)


def _mean_input(audio: ArrayLike) -> NDArray[np.float64]:
    """Return (n, D), the mean over the amplified inputs of each clip if there are several."""
    audio = np.asarray(audio, dtype=np.float64)
    return audio.mean(axis=1) if audio.ndim == 3 else audio
