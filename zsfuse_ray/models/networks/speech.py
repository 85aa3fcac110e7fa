"""Samples, frames and padding in wav2vec 2.0, HuBERT and WavLM."""

import torch
from torch import Tensor
from transformers import PreTrainedConfig, WavLMConfig

# Model types whose attention mask makes padding harmless, given layer normalisation in the convolutions.
_MASKED_TYPES = ("wav2vec2", "hubert", "wavlm")
MASK_EMBEDDING = r".*masked_spec_embed"  # a weight used only in training


def heeds_mask(config: PreTrainedConfig) -> bool:
    """Return whether a waveform encoder's attention mask makes padding harmless."""
    return config.model_type in _MASKED_TYPES and config.feat_extract_norm == "layer"


def receptive_field(config: PreTrainedConfig) -> int:
    """Return the number of samples a waveform encoder's convolutions need for one output; 1 without any."""
    kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def frame_mask(config: WavLMConfig, attention_mask: Tensor) -> Tensor:
    """Return which of WavLM's frames contain no padding: (B, samples) → (B, frames), bool."""
    counts = _frames(config, attention_mask.sum(dim=1))
    width = _frames(config, torch.tensor(attention_mask.shape[1]))
    return torch.arange(int(width), device=counts.device) < counts[:, None]


def _frames(config: WavLMConfig, samples: Tensor) -> Tensor:
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples
