"""ParaSpeechCLAP (Diwan et al. 2026, arXiv 2603.28737), from github.com/ajd12342/paraspeechclap.

Trained on descriptions of speaking style: of a speaker ("intrinsic"), of an utterance, including emotions
("situational", recommended here), or of both ("combined").

ParaCLAP's network with other encoders: WavLM Large for 16 kHz audio of any length, with mean and variance
normalised per clip and its last layer averaged without padding; and the first output of
granite-embedding-278m-multilingual (XLM-RoBERTa's architecture), at most 512 tokens. 768 dimensions. MIT.

A clip's score for a text is the plain cosine, as in the reference, which applies the softmax to it: `scale`
is 1, not the learned scale, which is used only in training. Posteriors are therefore nearly uniform: fit the
temperature on labelled data (zsfuse tune).

Deliberate difference from the reference: a clip shorter than 25 ms, on which it fails, is zero-padded.
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
        """Factor of the cosine of two embeddings: 1, as in the reference's classification."""
        return 1.0

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights under the reference's names, see `Paraclap.renamed`.

        As in the reference, the learned scale keeps its initial value if it has another name in the file.
        """
        weights = super().renamed(weights)
        weights.pop("logit_scale", None)
        weights["logit_scale"] = weights.pop("log_logit_scale", torch.tensor(math.log(1 / 0.07)))
        return weights
