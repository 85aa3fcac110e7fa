"""ParaSpeechCLAP (Diwan et al. 2026, arXiv 2603.28737), as github.com/ajd12342/paraspeechclap has it.

Made for descriptions of speaking styles: of a speaker ("intrinsic"), of an utterance, emotions among them
("situational", the one to take here), or of both ("combined").

ParaCLAP's network with other encoders: WavLM Large, which takes 16 kHz of any length with each clip's mean
and variance normalised, its last layer averaged over what is no padding; and the first output of
granite-embedding-278m-multilingual (of XLM-RoBERTa's architecture), at most 512 tokens. 768 dimensions. MIT.

A clip's score for a text is the plain cosine, of which the reference takes the softmax: `scale` is 1, not the
learned scale, which only training uses. Posteriors come out nearly flat, so fit the
temperature on labelled data (zsfuse tune).

Difference from the reference on purpose: a clip shorter than 25 ms, for which it fails, is completed with
zeros.
"""

import math

import torch
from torch import Tensor
from transformers import WavLMConfig, XLMRobertaConfig

from zsfuse_ray.models.about import About
from zsfuse_ray.models.families.paraclap import Paraclap


class ParaSpeechClap(Paraclap):
    """ParaSpeechCLAP. Raises InputError as `Paraclap` does."""

    about = About(
        rate="16 kHz",
        window="none",
        dim="768",
        licence="MIT",
        checkpoints=tuple(
            f"ajd12342/paraspeechclap-{styles}/paraspeechclap-{styles}.pth.tar"
            for styles in ("situational", "combined", "intrinsic")
        ),
    )
    family = "ParaSpeechCLAP"
    speech = WavLMConfig
    normalises = True
    writing = XLMRobertaConfig
    tokens_of = "ibm-granite/granite-embedding-278m-multilingual"

    @property
    def scale(self) -> float:
        """What multiplies the cosine of two embeddings: 1, as in the reference's classification."""
        return 1.0

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights by the names of the reference, see `Paraclap.renamed`.

        The reference leaves its learned scale at its start where the file calls it by another name.
        """
        weights = super().renamed(weights)
        weights.pop("logit_scale", None)
        weights["logit_scale"] = weights.pop("log_logit_scale", torch.tensor(math.log(1 / 0.07)))
        return weights
