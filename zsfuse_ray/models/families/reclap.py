"""ReCLAP (Ghosh et al. 2024, arXiv 2409.09213; github.com/Sreyan88/ReCLAP): LAION's CLAP with T5 for text.

The authors publish files on Google Drive, such as base_rewritten.pt, to be downloaded by hand. Neither the
code nor the weights have a licence; nothing of the code is copied here.

The audio encoder is HTS-AT (base or tiny, with or without the fusion of long audio), as in `laion`: 48 kHz,
windows of 10 s, filled by shorter audio in whole copies followed by zeros, and the log-mel of HTK's filters
with fusion, else of Slaney's. The text encoder is that of flan-t5-large with its tokenizer: a text is padded
to 77 tokens, and the mean over all 77 positions, padding included, is projected. Repeating a text changes how
many of them are padding. 512 dimensions; the cosine is multiplied by exp(logit_scale_a), the audio's of two
scales in the file; the authors rank by the cosine alone.

Deliberate differences from the reference: longer audio is never cropped at random, nor fused from random
chunks, but encoded in consecutive windows; audio is not rounded to 16 bits; longer text is reported as
truncated.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import ClapFeatureExtractor

from zsfuse_ray.audio.features import ClapMel
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel, fill_of
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.networks.reclap import FAMILY, TEXT_LENGTH, UNUSED, ReclapNetwork, named

TOKENIZER = "google/flan-t5-large"
_CLIP, _ROBERTA = "token_embedding.weight", "text_branch.embeddings.word_embeddings.weight"


class Reclap(AudioLanguageModel):
    """ReCLAP. Raises InputError for a checkpoint that is missing, not such a file, or without T5."""

    about = About(
        rate="48 kHz",
        window="10 s",
        dim="512",
        licence="none stated",
        checkpoints=("base_rewritten.pt",),
    )
    same_length = False

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
        super().__init__(source, dtype)
        self.licence, self.trained_on = source.licence or self.about.licence, source.trained_on

        weights = read_weights(source, ("state_dict",))
        _check_text_encoder(weights, checkpoint)
        try:
            network = ReclapNetwork(weights, checkpoint)
        except ValueError as error:
            raise InputError(
                f"{checkpoint}: not a valid {FAMILY} checkpoint: inconsistent sizes: {error}"
            ) from error
        network = fill(network, named(weights), checkpoint, FAMILY, UNUSED)
        audio = network.audio_branch.config
        extractor = ClapFeatureExtractor(
            feature_size=audio.num_mel_bins,
            frequency_min=50,
            truncation="fusion" if audio.enable_fusion else "rand_trunc",
        )
        self.put_together(checkpoint, network.to(device), extractor, tokenizer_of(source, TOKENIZER))

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes, see `AudioLanguageModel.put_together`."""
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self.sample_rate = extractor.sampling_rate
        self.fill = fill_of(extractor, name)
        self._mel = ClapMel(extractor)
        self.window = self._mel.window
        self.dim = network.dim
        self.logit_scale = network.logit_scale_a
        self.max_tokens = TEXT_LENGTH
        vocabulary = network.text_branch.config.vocab_size
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        if ids != (0, 1) or len(tokenizer) > vocabulary:
            raise InputError(
                f"{name} needs the tokenizer of {TOKENIZER} (at most {vocabulary} tokens; padding 0, end 1), "
                f"not one with {len(tokenizer)} tokens, padding {ids[0]} and end {ids[1]}"
            )

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return mel (B, 1, frames, bins), see `AudioLanguageModel.features`."""
        return {"mel": self._mel.to(self.device)([clip.to(self.device) for clip in clips])}

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        return self.network.audio(inputs["mel"])

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        return self.network.text(input_ids, attention_mask)


def _check_text_encoder(weights: Mapping[str, Tensor], name: str) -> None:
    """Raise InputError for the other text encoders that the authors' code can train."""
    if _CLIP in weights:
        shape = " × ".join(map(str, weights[_CLIP].shape))
        raise InputError(
            f"{name}: its text encoder is CLIP's ({_CLIP}, {shape}), not T5, and not supported, as the file "
            "does not contain the number of its attention heads"
        )
    if _ROBERTA in weights:
        raise InputError(
            f"{name}: its text encoder is RoBERTa, as in LAION's files, not T5; use laion:{name}"
        )
