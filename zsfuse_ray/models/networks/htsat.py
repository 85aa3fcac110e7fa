"""HTS-AT (Chen et al. 2022, arXiv 2202.00874) under its authors' names → transformers' ClapAudioModel.

Both are the same Swin transformer over a log-mel; names differ, and transformers keeps query, key and value
apart. Patches do not overlap and the picture is 256 × 256, as in every published checkpoint.
"""

import re
from collections.abc import Mapping
from math import isqrt

from torch import Tensor
from transformers import ClapAudioConfig

# Of a block, wherever it stands in a file.
BLOCK_NAMES = (
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_NAMES = ((r"^bn0\.", "batch_norm."), *BLOCK_NAMES)
# Spectrogram and classification head, which ClapAudioModel leaves to others, and masks that it makes anew.
_NOT_ITS = re.compile(r"(spectrogram_extractor|logmel_extractor|tscam_conv|head)\..*|.*\.attn_mask")


def htsat_config(weights: Mapping[str, Tensor]) -> ClapAudioConfig:
    """Return the sizes of an HTS-AT, read off the shapes of its weights. KeyError where one is missing."""
    blocks = [re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name) for name in weights]
    places = {(int(block[1]), int(block[2])) for block in blocks if block}
    stages = range(max(stage for stage, _ in places) + 1)
    tables = [weights[f"layers.{stage}.blocks.0.attn.relative_position_bias_table"] for stage in stages]
    patches = weights["patch_embed.proj.weight"]
    width, _, *patch = patches.shape
    return ClapAudioConfig(
        window_size=(isqrt(len(tables[0])) + 1) // 2,  # a table has a row for each of (2w − 1)² offsets
        num_mel_bins=len(weights["bn0.weight"]),
        patch_size=patch[0],
        patch_stride=patch,
        patch_embeds_hidden_size=width,
        hidden_size=width << len(stages) - 1,
        depths=[sum(place == stage for place, _ in places) for stage in stages],
        num_attention_heads=[table.shape[1] for table in tables],
        num_hidden_layers=len(stages),
        mlp_ratio=len(weights["layers.0.blocks.0.mlp.fc1.weight"]) / width,
    )


def htsat_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an HTS-AT under the names of ClapAudioModel."""
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if _NOT_ITS.fullmatch(name):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        name = f"audio_encoder.{name}"
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("qkv", part)] = third
        else:
            renamed[name] = value
    return renamed
