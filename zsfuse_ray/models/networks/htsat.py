"""Convert weights of HTS-AT (Chen et al. 2022, arXiv 2202.00874) to those of transformers' ClapAudioModel.

Both are the same Swin transformer over a log-mel; names differ, and transformers separates query, key and
value. Patches do not overlap and the image is 256 × 256, as in every published checkpoint.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import ClapAudioConfig

from zsfuse_ray.models.networks.sizes import Sizes

_NAMES = (
    (r"^bn0\.", "batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
# Spectrogram and classification head, not part of ClapAudioModel, and masks, which it recomputes.
_IGNORED = re.compile(r"(spectrogram_extractor|logmel_extractor|tscam_conv|head)\..*|.*\.attn_mask")


def htsat_config(sizes: Sizes) -> ClapAudioConfig:
    """Return the config of an HTS-AT, with fusion of long audio if it has the weights for it."""
    channels, _, *patch = sizes.of("patch_embed.proj.weight", 4)
    stages = range(sizes.parts("layers."))
    table = "layers.{}.blocks.0.attn.relative_position_bias_table"
    offsets, _ = sizes.of(table.format(0), 2)  # (2w − 1)² offsets in a window of width w
    is_fused = sizes.has("patch_embed.mel_conv2d.weight")
    return ClapAudioConfig(
        window_size=(round(offsets**0.5) + 1) // 2,
        num_mel_bins=sizes.of("bn0.weight", 1)[0],
        patch_size=patch[0],
        patch_stride=patch,
        patch_embeds_hidden_size=channels,
        hidden_size=sizes.of("norm.weight", 1)[0],
        depths=[sizes.parts(f"layers.{stage}.blocks.") for stage in stages],
        num_attention_heads=[sizes.of(table.format(stage), 2)[1] for stage in stages],
        num_hidden_layers=len(stages),
        mlp_ratio=sizes.of("layers.0.blocks.0.mlp.fc1.weight", 2)[0] / channels,
        enable_fusion=is_fused,
        fusion_type="aff_2d" if is_fused else None,
    )


def htsat_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an HTS-AT under the names of ClapAudioModel."""
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if _IGNORED.fullmatch(name):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        name = f"audio_encoder.{name}"
        if ".qkv." in name:
            # if it does not split into three, a weight is missing and `fill` raises
            thirds = zip(("query", "key", "value"), torch.atleast_1d(value).chunk(3), strict=False)
            renamed |= {name.replace("qkv", part): third for part, third in thirds}
        else:
            renamed[name] = value
    return renamed
