"""CLAP in LAION's own form (Wu et al. 2023, arXiv 2211.06687; github.com/LAION-AI/CLAP): a .pt file.

Such as 630k-audioset-best.pt (HTSAT-tiny), 630k-audioset-fusion-best.pt (with fusion of long audio) and
music_speech_audioset_epoch_15_esc_89.98.pt (HTSAT-base), all under CC0. The weights are renamed onto
transformers' ClapModel, its sizes read off their shapes; laion-clap need not be installed (`laion_package`
runs that very package, and gives the same embeddings).

48 kHz, windows of 10 s, which shorter audio fills in whole copies followed by zeros. Log-mel (Slaney's
filters, those of the fusion path HTK's) without normalisation. Text is RoBERTa's, cut at 77 tokens and said
to be. The text encoder's layer normalisation has RoBERTa's epsilon of 1e-5, where conversions on the hub
have 1e-12.

On purpose other than the reference: audio is not rounded to 16 bits once more after resampling (the
reference does so unless use_tensor=True), nor clipped at ±1; what exceeds the window is never cropped at
random, nor fused from random chunks: windows cover it.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.load import Checkpoint, download, resolve
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.networks.htsat import BLOCK_NAMES

CHECKPOINTS = (
    "lukewys/laion_clap/630k-audioset-best.pt",
    "lukewys/laion_clap/630k-audioset-fusion-best.pt",
    "lukewys/laion_clap/music_speech_audioset_epoch_15_esc_89.98.pt",
)
LICENCE = "CC0-1.0"
FAMILY = "LAION CLAP"
MAX_TOKENS = 77
TOKENIZER = "roberta-base"

# What the file holds beside the two towers: the front end (ClapMel computes it), masks that follow from the
# sizes, heads of a pre-training on AudioSet, and a projection that only the loss saw.
_UNUSED = (
    r"audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\..*",
    r"audio_branch\.layers\.\d+\.blocks\.\d+\.attn_mask",
    r"(audio|text)_transform\..*",
)
POSITION_IDS = r"text_branch\.embeddings\.(position_ids|token_type_ids)"  # counters, in some files only

_NAMES = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"\.bn0\.", ".batch_norm."),
    *BLOCK_NAMES,
    (r"^(audio|text)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"\1_projection.linear2."),
)


class Laion(Clap):
    """CLAP from LAION's file. Raises InputError for a checkpoint that is missing or no such file."""

    about = About(rate="48 kHz", window="10 s", dim="512", licence=LICENCE, checkpoints=CHECKPOINTS)

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        found, weights = read_laion(checkpoint)
        AudioLanguageModel.__init__(self, found, dtype)
        self.licence = found.licence or LICENCE

        config = config_of(weights, checkpoint)
        try:
            network = ClapModel(config)
        except ValueError as error:
            raise InputError(
                f"{checkpoint}: no {FAMILY} checkpoint: its sizes do not fit: {error}"
            ) from error
        counters = {k: v for k, v in network.state_dict().items() if re.search(r"(position|type)_ids$", k)}
        network = fill(network, counters | _converted(weights), checkpoint, FAMILY)
        extractor = ClapFeatureExtractor(
            feature_size=config.audio_config.num_mel_bins,
            frequency_min=50,
            truncation="fusion" if config.audio_config.enable_fusion else "rand_trunc",
        )
        tokenizer = tokenizer_of(found, TOKENIZER)
        tokenizer.model_max_length = MAX_TOKENS
        self.put_together(checkpoint, network.to(device), extractor, tokenizer)


def read_laion(checkpoint: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Return where LAION's file is, once fetched, and its weights; InputError for anything else."""
    found = resolve(checkpoint)
    if found.config:
        raise InputError(
            f"{checkpoint} is a folder in transformers' form, not LAION's .pt file: clap:{checkpoint}?"
        )
    found = download(found)
    return found, read_weights(found, ("state_dict",))


def config_of(weights: Mapping[str, Tensor], name: str) -> Any:
    """Return the ClapConfig of the towers, as the shapes of LAION's weights have them.

    Raises InputError where a weight that tells a size is missing; `name` is for the message.
    """

    def shape(key: str, axes: int) -> tuple[int, ...]:
        if key not in weights:
            raise InputError(f"{name}: no {FAMILY} checkpoint: it lacks {key}")
        if weights[key].ndim != axes:
            raise InputError(
                f"{name}: no {FAMILY} checkpoint: {key} is of shape {list(weights[key].shape)}, "
                f"expected {axes} axes"
            )
        return tuple(weights[key].shape)

    def count(pattern: str) -> int:
        return len({found[1] for key in weights if (found := re.match(pattern, key))})

    audio, text = "audio_branch.", "text_branch."
    channels, _, patch, _ = shape(f"{audio}patch_embed.proj.weight", 4)
    first = f"{audio}layers.0.blocks.0."
    stages = range(count(rf"{audio}layers\.(\d+)\."))
    bias = "attn.relative_position_bias_table"
    words, width = shape(f"{text}embeddings.word_embeddings.weight", 2)
    fused = f"{audio}patch_embed.mel_conv2d.weight" in weights
    return ClapConfig(
        projection_dim=shape("audio_projection.2.weight", 2)[0],
        audio_config={
            "num_mel_bins": shape(f"{audio}bn0.weight", 1)[0],
            "patch_size": patch,
            "patch_stride": [patch, patch],
            "patch_embeds_hidden_size": channels,
            "hidden_size": shape(f"{audio}norm.weight", 1)[0],
            "depths": [count(rf"{audio}layers\.{stage}\.blocks\.(\d+)\.") for stage in stages],
            "num_attention_heads": [shape(f"{audio}layers.{i}.blocks.0.{bias}", 2)[1] for i in stages],
            "num_hidden_layers": len(stages),
            "window_size": (round(shape(f"{first}{bias}", 2)[0] ** 0.5) + 1) // 2,
            "mlp_ratio": shape(f"{first}mlp.fc1.weight", 2)[0] / channels,
            "enable_fusion": fused,
            "fusion_type": "aff_2d" if fused else None,
        },
        text_config={
            "vocab_size": words,
            "hidden_size": width,
            "num_hidden_layers": count(rf"{text}encoder\.layer\.(\d+)\."),
            "num_attention_heads": max(1, width // 64),
            "intermediate_size": shape(f"{text}encoder.layer.0.intermediate.dense.weight", 2)[0],
            "max_position_embeddings": shape(f"{text}embeddings.position_embeddings.weight", 2)[0],
            "type_vocab_size": shape(f"{text}embeddings.token_type_embeddings.weight", 2)[0],
            "layer_norm_eps": 1e-5,
        },
    )


def _converted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return LAION's weights under the names of transformers' ClapModel, without what it does not have."""
    converted = {}
    for key, value in weights.items():
        if any(re.fullmatch(pattern, key) for pattern in (*_UNUSED, POSITION_IDS)):
            continue
        for pattern, name in _NAMES:
            key = re.sub(pattern, name, key)
        if ".qkv." in key:
            parts = zip(("query", "key", "value"), torch.atleast_1d(value).chunk(3), strict=False)
            converted |= {key.replace(".qkv.", f".{part}."): piece for part, piece in parts}
        else:
            converted[key] = value
    return converted
