"""CLSP (Yang et al. 2026, arXiv 2601.03065), trained on descriptions of speaking style: hub yfyeung/CLSP.

The audio encoder is SPEAR-XLarge, a Zipformer2 of 600 M parameters, for 16 kHz audio of any length: its
frames at 25 Hz are averaged. The text encoder is roberta-base with its pooler; at most 512 tokens. Each has a
projection and a transform. 512 dimensions, exp(logit_scale) · cosine. Apache-2.0.

A port for inference, without k2 and without the code in the release, of the authors' training code
(github.com/yfyeung/icefall, branch clsp, commit ba0b41c, Apache-2.0); the audio encoder is verified against
the package zipformer 0.1.3. The release (on the hub, revision 30355ce67960e4cc1562e4e5fa154baf86a21430 is
loaded) was not available: the names of its weights and the log-mel of `ClspFbank` were predicted from that
code. Names are compared strictly; config.json may override sizes, by the names of icefall's options.

Zeros after a clip would change its result, in the reference too, so only clips of equal length share a batch.
Every copy of the audio is encoded: a copies take a times the time of the convolutions and linear layers, and
a² times that of attention, whose frames are at 50 Hz; it needs 0.24 MB times the square of the seconds, in
float32. Measured on two CPU threads: one second of a clip of 30 s takes 0.5 CPU seconds, two copies of the
clip take 2.0 times as long as one.

The authors' prompt is "A speaker in a {} tone." with angry, calm, disgust, fear, happy, sad, surprised and
neutral, one prompt per class.

Deliberate difference from the reference: a clip shorter than 85 ms, on which it fails, is zero-padded.
"""

from typing import Any

import torch
from torch import Tensor

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.networks.clsp import RATE, ClspFbank, ClspNetwork, clsp_sizes

FAMILY = "CLSP"
TOKENIZER = "roberta-base"
_UNUSED = (r"text_encoder\.embeddings\.position_ids",)  # stored by older versions of transformers
_REMARK = (
    "; the names of CLSP's weights were predicted from its training code: if this is the authors' release, "
    "please report this line"
)


class Clsp(AudioLanguageModel):
    """CLSP. Raises InputError for a checkpoint that is missing, of another family, or does not fit."""

    about = About(
        rate="16 kHz",
        window="none",
        dim="512",
        licence="Apache-2.0",
        checkpoints=("yfyeung/CLSP",),
        note="inference only; a copies of the audio take a times the time, and a² times that of attention",
    )
    sample_rate = RATE
    window = None
    fill = "none"
    same_length = True

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        if not source.config:
            raise InputError(
                f"{checkpoint} is a file of weights; expected a folder with config.json and "
                f"model.safetensors, such as {self.about.checkpoints[0]}"
            )
        source = download(source)
        super().__init__(source, dtype)
        self.licence = source.licence or self.about.licence

        sizes = clsp_sizes(source.config, checkpoint)
        weights = read_weights(source, prefix="model.")
        try:
            with torch.device("meta"):  # initialising 724 M weights takes 20 s
                network = ClspNetwork(sizes)
        except ValueError as error:
            raise InputError(f"{checkpoint}: config.json has inconsistent sizes: {error}") from error
        network = fill(network, weights, checkpoint, FAMILY, _UNUSED, _REMARK)
        self.put_together(checkpoint, network.to(device), ClspFbank(), tokenizer_of(source, TOKENIZER))

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes, see `AudioLanguageModel.put_together`."""
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self.dim = network.dim
        self.logit_scale = network.logit_scale
        text = network.text_encoder.config
        if tokenizer.pad_token_id != text.pad_token_id or len(tokenizer) > text.vocab_size:
            raise InputError(
                f"{name} needs the tokenizer of {TOKENIZER} ({text.vocab_size} tokens, padding id "
                f"{text.pad_token_id}), not one with {len(tokenizer)} tokens and padding id "
                f"{tokenizer.pad_token_id}"
            )
        # RoBERTa's positions start after that of the padding token.
        positions = text.max_position_embeddings - text.pad_token_id - 1
        self.max_tokens = min(positions, tokenizer.model_max_length)

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return mel (B, frames, bins), see `AudioLanguageModel.features`.

        Raises ValueError for clips of different lengths.
        """
        return {"mel": self.extractor.to(self.device)([clip.to(self.device) for clip in clips])}

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        return self.network.audio(inputs["mel"])

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        return self.network.text(input_ids, attention_mask)
