"""CLAP (Wu et al. 2023, arXiv 2211.06687) in transformers' format, such as laion/clap-htsat-unfused."""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from zsfuse_ray.audio.features import ClapMel
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel, fill_of
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download, load_model, load_part


class Clap(AudioLanguageModel):
    """CLAP. Raises InputError for a checkpoint that is missing or not a CLAP model."""

    about = About(
        rate="48 kHz",
        window="10 s",
        dim="512",
        licence="Apache-2.0",
        checkpoints=(
            "laion/clap-htsat-unfused",
            "laion/clap-htsat-fused",
            "laion/larger_clap_general",
            "laion/larger_clap_music_and_speech",
        ),
    )
    same_length = False

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        if not source.config:
            raise InputError(
                f"{checkpoint} is a file of weights, not a folder in transformers' format; add its family, "
                f"such as laion:{checkpoint}"
            )
        model_type = source.config.get("model_type")
        if model_type != "clap":
            raise InputError(f"{checkpoint} is not a CLAP model: config.json has model_type {model_type!r}")
        source = download(source)
        super().__init__(source, dtype)

        extractor, tokenizer = load_part(ClapFeatureExtractor, source), load_part(AutoTokenizer, source)
        self.put_together(checkpoint, load_model(ClapModel, source, device), extractor, tokenizer)

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes, see `AudioLanguageModel.put_together`."""
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self.sample_rate = extractor.sampling_rate
        self.fill = fill_of(extractor, name)
        self._mel = ClapMel(extractor)
        self.window = self._mel.window
        self.dim = network.config.projection_dim
        self.logit_scale = network.logit_scale_a
        text = network.config.text_config
        # RoBERTa's positions start after that of the padding token.
        positions = text.max_position_embeddings - text.pad_token_id - 1
        self.max_tokens = min(positions, tokenizer.model_max_length)

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return input_features (B, 1, frames, bins), see `AudioLanguageModel.features`."""
        return {"input_features": self._mel.to(self.device)([clip.to(self.device) for clip in clips])}

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        mel = inputs["input_features"]
        # A checkpoint with fusion would fuse inputs marked as longer than the window; none are.
        longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
        return self.network.get_audio_features(mel, is_longer=longer).pooler_output

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        return self.network.get_text_features(input_ids, attention_mask=attention_mask).pooler_output
