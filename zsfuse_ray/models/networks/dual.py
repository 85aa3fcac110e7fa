"""The network of the `dual` family: an audio encoder, a text encoder, and a projection of each.

Any encoders of transformers can be used: each is described by its own config inside config.json, as in
transformers' vision-text-dual-encoder. ParaCLAP (Jing et al. 2024, arXiv 2406.07203) and ParaSpeechCLAP have
this network, with `mlp` projections; their families read the authors' files. Folders are those of
save_pretrained: config.json with model_type "dual" and model.safetensors.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    ClapAudioModel,
    ClapTextModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.models.whisper.modeling_whisper import WhisperEncoder

PROJECTIONS = ("linear", "mlp")
POOLINGS = ("mean", "cls", "pooler")

# Encoders that AutoModel cannot create from their config.
ENCODERS: dict[str, type[PreTrainedModel]] = {
    "whisper": WhisperEncoder,
    "clap_audio_model": ClapAudioModel,
    "clap_text_model": ClapTextModel,
}


class DualConfig(PreTrainedConfig):
    """Content of config.json. audio_config, text_config: those of the encoders.

    projection: "linear" or "mlp"; projection_dim: size of the common space; audio_pooling, text_pooling:
    "mean" (without padding), "cls" (the first output), or the encoder's own "pooler". The audio_config of an
    image encoder may have features_mean and features_std, which normalise its log-mels.
    """

    model_type = "dual"
    sub_configs_defaults = {  # noqa: RUF012 (transformers reads it from the class)
        "audio_config": SubConfigSpec(config_class=AutoConfig, model_type="wav2vec2"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }

    audio_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    projection: str = "linear"
    projection_dim: int = 512
    projection_dropout: float | int = 0.5
    audio_pooling: str = "mean"
    text_pooling: str = "mean"
    logit_scale_init_value: float | int = math.log(1 / 0.07)


class MlpProjection(nn.Module):
    """ParaCLAP's projection: a linear layer, then a residual one around GELU, then a layer norm."""

    def __init__(self, width: int, dim: int, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(width, dim, bias=False)
        self.linear2 = nn.Linear(dim, dim, bias=False)
        self.layer_norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        first = self.linear1(x)
        return self.layer_norm(first + self.drop(self.linear2(nn.functional.gelu(first))))


class DualNetwork(PreTrainedModel):
    """Both encoders and their projections. logit_scale: log of the factor of the cosine."""

    config_class = DualConfig
    base_model_prefix = "dual"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: DualConfig):
        super().__init__(config)
        self.audio_model = encoder_of(config.audio_config)
        self.text_model = encoder_of(config.text_config)
        self.audio_projection = _projection(config, _width(self.audio_model.config))
        self.text_projection = _projection(config, _width(self.text_model.config))
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise everything outside the encoders, which initialise themselves."""
        if isinstance(module, DualNetwork):
            nn.init.constant_(self.logit_scale, self.config.logit_scale_init_value)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of the output of `Dual.features`.

        Its `filled`, (B,), is the share of the time axis without padding, for encoders without a mask.
        """
        encoder: Any = self.audio_model
        pooling = self.config.audio_pooling
        output = encoder(**{name: value for name, value in inputs.items() if name != "filled"})
        if pooling != "mean":
            return self.audio_projection(_pooled(output, pooling))
        hidden, mask = output.last_hidden_state, inputs.get("attention_mask")
        if hidden.ndim == 4:  # an image's (B, channels, time, mels)
            hidden = hidden.mean(dim=3).transpose(1, 2)
        if "filled" in inputs:
            frames = (inputs["filled"] * hidden.shape[1] - 1e-3).ceil().clamp(min=1)
            mask = torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None]
        elif mask is not None and hidden.shape[1] != mask.shape[1]:  # convolutions reduce samples to frames
            mask = encoder._get_feature_vector_attention_mask(hidden.shape[1], mask)
        return self.audio_projection(_mean(hidden, mask))

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of token ids (B, length) and their mask."""
        output, pooling = self.text_model(input_ids, attention_mask=attention_mask), self.config.text_pooling
        if pooling != "mean":
            return self.text_projection(_pooled(output, pooling))
        return self.text_projection(_mean(output.last_hidden_state, attention_mask))


def encoder_of(config: Any) -> PreTrainedModel:
    """Return the encoder of a config, with random weights; only the encoder of an encoder-decoder."""
    if config.model_type in ENCODERS:
        return ENCODERS[config.model_type](config)
    # in the network's precision, whatever the encoder was saved in
    model = AutoModel.from_config(config, dtype=torch.get_default_dtype())
    return model.get_encoder() if config.is_encoder_decoder else model


def _projection(config: DualConfig, width: int) -> nn.Module:
    if config.projection == "linear":
        return nn.Linear(width, config.projection_dim, bias=False)
    return MlpProjection(width, config.projection_dim, config.projection_dropout)


def _width(config: Any) -> int:
    """Return the size of an encoder's last hidden state."""
    if sizes := getattr(config, "hidden_sizes", None):  # an image model has one per stage
        return sizes[-1]
    return config.output_hidden_size if getattr(config, "add_adapter", False) else config.hidden_size


def _pooled(output: Any, pooling: str) -> Tensor:
    return output.last_hidden_state[:, 0] if pooling == "cls" else output.pooler_output.flatten(1)


def _mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the masked mean (B, width) of (B, length, width) over the length."""
    if mask is None:
        return hidden.mean(dim=1)
    mask = mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)
