"""The network of the `pooled` families: a frozen speech encoder and small heads on its pooled output.

The trunk is the first layers of a Whisper encoder (Radford et al. 2022, arXiv 2212.04356), applied at the
length of the clip instead of 30 s of padding. Mean and standard deviation over time of its last layer,
standardised, are the vector that a linear classifier and the projection into the space of a text encoder
read. Folders are those of save_pretrained: config.json with model_type "pooled" and model.safetensors.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from zsfuse_ray.models.networks.dual import encoder_of


class PooledConfig(PreTrainedConfig):
    """Content of config.json. trunk_config: Whisper's; text_config: the text encoder's; id2label: the labels.

    projection_hidden, projection_dim: sizes of the audio projection and of the common space, which is that of
    the text encoder's mean output.
    """

    model_type = "pooled"
    sub_configs_defaults = {  # noqa: RUF012 (transformers reads it from the class)
        "trunk_config": SubConfigSpec(config_class=AutoConfig, model_type="whisper"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }

    trunk_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    projection_hidden: int = 256
    projection_dim: int = 128
    logit_scale_init_value: float | int = math.log(10)


class PooledNetwork(PreTrainedModel):
    """Trunk, text encoder and heads. logit_scale: log of the factor of the cosine.

    mean, deviation: (V,) of the training vectors, V = 2 · width of the trunk.
    """

    config_class = PooledConfig
    base_model_prefix = "pooled"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: PooledConfig):
        super().__init__(config)
        trunk: Any = config.trunk_config
        size = 2 * trunk.d_model
        self.trunk = WhisperEncoder(trunk)
        self.text_model = encoder_of(config.text_config)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.classifier = nn.Linear(size, len(config.id2label or ()))
        self.audio_projection = nn.Sequential(
            nn.Linear(size, config.projection_hidden),
            nn.GELU(),
            nn.Linear(config.projection_hidden, config.projection_dim),
        )
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def vectors(self, features: Tensor, frames: Tensor) -> Tensor:
        """Return standardised vectors (B, V) of log-mels (B, bands, T), of which `frames` (B,) are filled.

        Padding does not change a row: it is zeroed after the first convolution and masked in the attention.
        """
        trunk: Any = self.trunk
        filled = torch.arange(features.shape[2], device=features.device) < frames[:, None]
        hidden = gelu(trunk.conv1(features)) * filled[:, None]
        hidden = gelu(trunk.conv2(hidden)).transpose(1, 2)
        mask = filled[:, ::2]  # the second convolution has stride 2
        hidden = hidden + trunk.embed_positions.weight[: hidden.shape[1]]
        unseen = None
        if not mask.all():
            unseen = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(
                ~mask, torch.finfo(hidden.dtype).min
            )
            unseen = unseen[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)
        for layer in trunk.layers:
            out = layer(hidden, unseen)
            hidden = out[0] if isinstance(out, tuple) else out
        return (_statistics(hidden.float(), mask) - self.mean) / self.deviation

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of token ids (B, length) and their mask."""
        hidden = self.text_model(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def _statistics(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return mean and standard deviation (B, 2 · width) of the unmasked (B, T, width) over time."""
    share = mask[..., None].to(hidden.dtype)
    share = share / share.sum(dim=1, keepdim=True)
    mean = (hidden * share).sum(dim=1)
    variance = ((hidden - mean[:, None]).square() * share).sum(dim=1)
    return torch.cat([mean, variance.sqrt()], dim=1)
