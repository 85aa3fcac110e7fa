"""WavLM and Whisper's encoder inside checkpoints without their settings: sizes come from the weights.

What no weight tells is that of every published model: WavLM's strides, where its layers normalise, and
Whisper's heads, 64 wide.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import WavLMConfig, WhisperConfig

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.networks.sizes import Sizes

_STRIDES = [5, 2, 2, 2, 2, 2, 2]  # of WavLM's convolutions
_HEAD = 64  # width of an attention head in every Whisper
# How older versions of PyTorch name the two parts of a normalised weight.
_OLD_NAMES = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}
MASK_EMBEDDING = r".*masked_spec_embed"  # a weight of WavLM's that training alone uses


def wavlm_config(sizes: Sizes) -> WavLMConfig:
    """Return the settings of the WavLM whose weights these are."""
    convolution = "feature_extractor.conv_layers.{}.conv.weight"
    shapes = [sizes.of(convolution.format(i), 3) for i in range(len(_STRIDES))]
    buckets, heads = sizes.of("encoder.layers.0.attention.rel_attn_embed.weight", 2)
    hidden, per_group, positions = sizes.of(
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1", 3
    )
    # WavLM-Large normalises in every convolution and before each layer, the smaller ones in neither place.
    is_large = sizes.has("feature_extractor.conv_layers.1.layer_norm.weight")
    return WavLMConfig(
        hidden_size=hidden,
        num_hidden_layers=sizes.count("encoder.layers.{}.layer_norm.weight"),
        num_attention_heads=heads,
        intermediate_size=sizes.of("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
        conv_dim=[shape[0] for shape in shapes],
        conv_kernel=[shape[2] for shape in shapes],
        conv_stride=_STRIDES,
        conv_bias=sizes.has("feature_extractor.conv_layers.0.conv.bias"),
        num_conv_pos_embeddings=positions,
        num_conv_pos_embedding_groups=hidden // per_group,
        num_buckets=buckets,
        feat_extract_norm="layer" if is_large else "group",
        do_stable_layer_norm=is_large,
        mask_time_prob=0.0,  # no weight for what masks would hide
    )


def whisper_config(sizes: Sizes, positions: int) -> WhisperConfig:
    """Return the settings of the Whisper whose encoder's weights these are, hearing so many positions."""
    width, bins, _ = sizes.of("conv1.weight", 3)
    return WhisperConfig(
        d_model=width,
        num_mel_bins=bins,
        encoder_layers=sizes.count("layers.{}.fc1.weight"),
        encoder_attention_heads=max(1, width // _HEAD),
        encoder_ffn_dim=sizes.of("layers.0.fc1.weight", 2)[0],
        max_source_positions=positions,
    )


def todays_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with the names that PyTorch gives them now."""
    renamed = {}
    for key, value in weights.items():
        stem, dot, last = key.rpartition(".")
        renamed[stem + _OLD_NAMES.get(dot + last, dot + last)] = value
    return renamed


def without_adapters(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the weights with low-rank adapters as loralib's `Linear` has them added to what they adapt.

    Its scale is alpha / rank, with alpha 1. Raises InputError for an adapter that fits nothing.
    """
    merged = {key: value for key, value in weights.items() if not key.endswith((".lora_A", ".lora_B"))}
    for key, down in weights.items():
        stem, _, last = key.rpartition(".")
        if last != "lora_A":
            continue
        up, adapted = weights.get(f"{stem}.lora_B"), merged.get(f"{stem}.weight")
        if up is None or adapted is None or {up.ndim, down.ndim} != {2} or len(down) != up.shape[1]:
            raise InputError(f"{name}: {key} adapts no weight of its checkpoint")
        change = up.float() @ down.float() / len(down)
        if change.shape != adapted.shape:
            raise InputError(f"{name}: {key} adapts a weight of shape {list(adapted.shape)}, not its own")
        merged[f"{stem}.weight"] = adapted.float() + change
    return merged


def frame_mask(config: WavLMConfig, attention_mask: Tensor) -> Tensor:
    """Return which of WavLM's frames hold nothing of the padding: (B, samples) → (B, frames), bool."""
    counts = _frames(config, attention_mask.sum(dim=1))
    width = _frames(config, torch.tensor(attention_mask.shape[1]))
    return torch.arange(int(width), device=counts.device) < counts[:, None]


def _frames(config: WavLMConfig, samples: Tensor) -> Tensor:
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples
