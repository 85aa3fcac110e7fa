"""The paper's trained fusion: a linear classifier on [LayerNorm(vector) ; LayerNorm(zero-shot scores)].

Source: Kataria & Hu 2026, arXiv 2603.23057: the zero-shot scores of the audio-language model and the vector
of the fine-tuned speech model are layer-normalised, concatenated and classified. The gains and offsets of the
norms are part of the linear layer here, which is the same function.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.method.logistic import Classifier, fit_classifier
from zsfuse_ray.method.zeroshot import Ensemble, Scores, posterior
from zsfuse_ray.method.zeroshot import scores as mean_scores

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # grid for C; a vector has hundreds of values of variance 1
EPSILON = 1e-5  # of torch.nn.LayerNorm


@dataclass(frozen=True, eq=False)
class Concat:
    """A classifier (C, V + S) of the normalised vector and the normalised scores, side by side.

    scores, per_prompt: which zero-shot scores it reads, see `zero_shot_scores`.
    """

    classifier: Classifier
    scores: Scores = "logit"
    per_prompt: bool = False

    def predict(self, vectors: ArrayLike, zero_shot: ArrayLike) -> NDArray[np.float64]:
        """Return the fused posterior (n, C) of vectors (n, V) and zero-shot scores (n, S)."""
        return self.classifier.posterior(joined(vectors, zero_shot))


def fit_concat(
    vectors: ArrayLike,
    zero_shot: ArrayLike,
    targets: ArrayLike,
    n_labels: int,
    groups: ArrayLike | None = None,
    scores: Scores = "logit",
    per_prompt: bool = False,
) -> Concat:
    """Return the fusion fitted on vectors (n, V), zero-shot scores (n, S) and targets (n,).

    groups: (n,), such as speakers, for the choice of the penalty and the temperature, see `fit_classifier`;
    scores, per_prompt: which zero-shot scores these are. InputError for fewer than two labels.
    """
    inputs = joined(vectors, zero_shot)
    classifier = fit_classifier(inputs, np.asarray(targets), n_labels, STRENGTHS, groups, calibrate=True)
    return Concat(classifier, scores, per_prompt)


def zero_shot_scores(
    audio: ArrayLike,
    text: ArrayLike,
    scale: float,
    kind: Scores = "logit",
    ensemble: Ensemble = "embedding",
    per_prompt: bool = False,
) -> NDArray[np.float64]:
    """Return the scores (n, C), or (n, P · C) with those of each of the P prompts of a label.

    audio, text, scale, ensemble: as of `zeroshot.scores`. An ensemble of probabilities has no scores: cosines
    and logits are then averaged over the prompts.
    """
    if per_prompt:
        text = np.asarray(text)
        rows = [zero_shot_scores(audio, one[None], scale, kind, ensemble) for one in text]
        return np.hstack(rows)
    if kind == "posterior":
        return posterior(audio, text, scale, ensemble)
    rule = "logit" if ensemble == "probability" else ensemble  # a mean of posteriors has no scores
    return mean_scores(audio, text, scale if kind == "logit" else 1.0, rule)


def joined(vectors: ArrayLike, zero_shot: ArrayLike) -> NDArray[np.float64]:
    """Return [LayerNorm(vector) ; LayerNorm(scores)], (n, V + S), of vectors (n, V) and scores (n, S)."""
    return np.hstack([layer_norm(vectors), layer_norm(zero_shot)])


def layer_norm(x: ArrayLike) -> NDArray[np.float64]:
    """Return rows (n, F) with mean 0 and variance 1 (Ba et al. 2016), without gain and offset."""
    x = np.asarray(x, np.float64)
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + EPSILON)
