"""CLAP in LAION's own format (Wu et al. 2023, arXiv 2211.06687; github.com/LAION-AI/CLAP): a .pt file.

Such as 630k-audioset-best.pt (HTSAT-tiny), 630k-audioset-fusion-best.pt (with fusion of long audio) and
music_speech_audioset_epoch_15_esc_89.98.pt (HTSAT-base), all under CC0. The weights are renamed to those of
transformers' ClapModel, whose sizes are inferred from their shapes. laion-clap is not required
(`laion_package` runs that package itself and gives the same embeddings).

48 kHz, windows of 10 s, filled by shorter audio in whole copies followed by zeros. Log-mel (Slaney's filters;
HTK's on the fusion path) without normalisation. RoBERTa's tokens, truncated to 77 and reported as truncated.
The text encoder's layer normalisation has RoBERTa's epsilon of 1e-5, where conversions on the hub have 1e-12.

Deliberate differences from the reference: audio is not rounded to 16 bits again after resampling (the
reference does so unless use_tensor=True), nor clipped at ±1; longer audio is never cropped at random, nor
fused from random chunks, but encoded in consecutive windows.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.networks.configs import text_config
from zsfuse_ray.models.networks.htsat import htsat_config, htsat_weights
from zsfuse_ray.models.networks.sizes import Sizes, part_of

CHECKPOINTS = (
    "lukewys/laion_clap/630k-audioset-best.pt",
    "lukewys/laion_clap/630k-audioset-fusion-best.pt",
    "lukewys/laion_clap/music_speech_audioset_epoch_15_esc_89.98.pt",
)
LICENCE = "CC0-1.0"
FAMILY = "LAION CLAP"
MAX_TOKENS = 77
TOKENIZER = "roberta-base"

_AUDIO, _TEXT = "audio_branch.", "text_branch."
_UNUSED = r"(audio|text)_transform\..*"  # a projection used only by the loss
POSITION_IDS = r"text_branch\.embeddings\.(position_ids|token_type_ids)"  # constants, in some files only

_NAMES = (
    (r"^text_branch\.", "text_model."),
    (r"^(audio|text)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"\1_projection.linear2."),
)


class Laion(Clap):
    """CLAP from LAION's file. Raises InputError for a checkpoint that is missing or not such a file."""

    about = About(rate="48 kHz", window="10 s", dim="512", licence=LICENCE, checkpoints=CHECKPOINTS)

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source, weights = read_laion(checkpoint)
        AudioLanguageModel.__init__(self, source, dtype)
        self.licence, self.trained_on = source.licence or LICENCE, source.trained_on

        config = config_of(weights, checkpoint)
        try:
            network = ClapModel(config)
        except ValueError as error:
            raise InputError(
                f"{checkpoint}: not a valid {FAMILY} checkpoint: inconsistent sizes: {error}"
            ) from error
        counters = {k: v for k, v in network.state_dict().items() if re.search(r"(position|type)_ids$", k)}
        network = fill(network, counters | _converted(weights), checkpoint, FAMILY)
        extractor = ClapFeatureExtractor(
            feature_size=config.audio_config.num_mel_bins,
            frequency_min=50,
            truncation="fusion" if config.audio_config.enable_fusion else "rand_trunc",
        )
        tokenizer = tokenizer_of(source, TOKENIZER)
        tokenizer.model_max_length = MAX_TOKENS
        self.put_together(checkpoint, network.to(device), extractor, tokenizer)


def read_laion(checkpoint: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Return LAION's file, downloaded if necessary, and its weights; InputError for anything else."""
    source = resolve(checkpoint)
    if source.config:
        raise InputError(
            f"{checkpoint} is a folder in transformers' format, not LAION's .pt file; use clap:{checkpoint}"
        )
    source = download(source)
    return source, read_weights(source, ("state_dict",))


def config_of(weights: Mapping[str, Tensor], name: str) -> Any:
    """Return the ClapConfig of the towers, inferred from the shapes of LAION's weights.

    Raises InputError if a weight that determines a size is missing; `name` is for the message.
    """
    return ClapConfig(
        projection_dim=Sizes(weights, name, FAMILY).of("audio_projection.2.weight", 2)[0],
        audio_config=htsat_config(Sizes(weights, name, FAMILY, _AUDIO)).to_dict(),
        text_config=text_config(Sizes(weights, name, FAMILY, _TEXT), ClapTextConfig).to_dict(),
    )


def _converted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return LAION's weights under the names of transformers' ClapModel, without those it does not have."""
    audio = htsat_weights(part_of(weights, _AUDIO))
    converted = {f"audio_model.{key}": value for key, value in audio.items()}
    for key, value in weights.items():
        if key.startswith(_AUDIO) or re.fullmatch(f"{_UNUSED}|{POSITION_IDS}", key):
            continue
        for pattern, name in _NAMES:
            key = re.sub(pattern, name, key)
        converted[key] = value
    return converted
