"""ParaCLAP (Jing et al. 2024, arXiv 2406.07203), defined and published in github.com/KeiKinn/ParaCLAP.

The audio encoder is a wav2vec 2.0 Large with twelve layers (audeering's
wav2vec2-large-robust-12-ft-emotion-msp-dim) for 16 kHz audio of any length, without normalisation of mean and
variance; the mean over time of its last layer is projected. A text's embedding is the projected first output
of bert-base-uncased; at most 512 tokens. 768 dimensions, exp(logit_scale) · cosine.

This is the network of the `dual` family; saving it writes a `dual` folder. The file is a state_dict, from
which all sizes are inferred; see `configs` for the rest.

Deliberate differences from the reference:

- The reference encodes one clip at a time and would treat padding as silence. Here clips of different lengths
  share a batch, and an attention mask makes the result the same as without a batch.
- A clip shorter than 25 ms, on which the reference fails, is zero-padded.

The repository and the checkpoint state no licence; that of the pretrained audio encoder is CC-BY-NC-SA-4.0.
"""

import re
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import BertConfig, Wav2Vec2Config, Wav2Vec2FeatureExtractor

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.families.dual import Dual
from zsfuse_ray.models.networks.configs import speech_config, text_config
from zsfuse_ray.models.networks.dual import DualConfig, DualNetwork
from zsfuse_ray.models.networks.sizes import Sizes

_OURS = (("audio_branch.base.", "audio_model."), ("text_branch.base.", "text_model."))
_UNUSED = (
    r"audio_model\.masked_spec_embed",  # used only in training
    r"text_model\.embeddings\.position_ids",  # stored by older versions of transformers
)


class Paraclap(Dual):
    """ParaCLAP.

    Raises InputError for a checkpoint that is missing, not a file of weights, or of another family, and for a
    tokenizer with more tokens than the text encoder.
    """

    about = About(
        rate="16 kHz",
        window="none",
        dim="768",
        licence="none stated (its audio encoder: CC-BY-NC-SA-4.0)",
        checkpoints=("KeiKinn/paraclap/best.pth.tar",),
    )
    family: ClassVar[str] = "ParaCLAP"
    speech: ClassVar[Any] = Wav2Vec2Config
    normalises: ClassVar[bool] = False  # each clip's mean and variance
    writing: ClassVar[Any] = BertConfig
    tokens_of: ClassVar[str] = "bert-base-uncased"

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        if source.config:
            raise InputError(
                f"{checkpoint} is a folder with config.json "
                f"(model_type {source.config.get('model_type')!r}); "
                f"expected a file of weights, such as {self.about.checkpoints[0]}"
            )
        source = download(source)
        AudioLanguageModel.__init__(self, source, dtype)
        self.licence, self.trained_on = source.licence or self.about.licence, source.trained_on

        weights = self.renamed(read_weights(source))
        network = fill(self._network(weights, checkpoint), _ours(weights), checkpoint, self.family, _UNUSED)
        tokenizer = tokenizer_of(source, self.tokens_of)
        vocabulary = network.config.text_config.vocab_size
        if len(tokenizer) > vocabulary:
            raise InputError(
                f"{checkpoint}: its tokenizer has {len(tokenizer)} tokens, expected at most "
                f"{vocabulary} as in its text encoder"
            )
        extractor = Wav2Vec2FeatureExtractor(do_normalize=self.normalises, return_attention_mask=True)
        self.put_together(checkpoint, network.to(device), extractor, tokenizer)

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights under the reference's names."""
        return weights

    def _network(self, weights: dict[str, Tensor], name: str) -> DualNetwork:
        """Return a network with the sizes of the weights."""
        speech = Sizes(weights, name, self.family, "audio_branch.base.")
        writing = Sizes(weights, name, self.family, "text_branch.base.")
        dim, _ = Sizes(weights, name, self.family).of("audio_projection.linear1.weight", 2)
        config: Any = DualConfig(
            audio_config=speech_config(speech, self.speech),
            text_config=text_config(writing, self.writing),
            projection="mlp",
            projection_dim=dim,
            text_pooling="cls",
        )
        return DualNetwork(config)


def _ours(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of `DualNetwork`."""
    for theirs, ours in _OURS:
        weights = {re.sub(f"^{re.escape(theirs)}", ours, key): value for key, value in weights.items()}
    return weights
