"""CLAP in LAION's own format, computed by the package laion-clap itself (github.com/LAION-AI/CLAP, 1.1.7).

Runs the reference code: same files, rate, windows, licence and deliberate differences as `laion`, which gives
the same embeddings faster. Needs the extra `laion`.

The package requests tokenizers from the hub at import and RoBERTa when a model is created, and unpickles
checkpoints, which may run their code. Both are prevented here: during import and creation, transformers'
classes return local parts, and the weights are loaded by our own reader. The package's entry in sys.path is
removed afterwards (its modules `clap_module…` stay imported under these names). Only the networks of its
configurations are supported: HTSAT-tiny, -base and -large. For inference, not training.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import (
    BartTokenizer,
    BertTokenizer,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.weights import fill, tokenizer_of
from zsfuse_ray.models.families.laion import (
    CHECKPOINTS,
    FAMILY,
    LICENCE,
    MAX_TOKENS,
    POSITION_IDS,
    TOKENIZER,
    config_of,
    read_laion,
)

# The package's networks, by the channels of their first stage.
_NETWORKS = {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}


class LaionPackage(AudioLanguageModel):
    """CLAP by laion-clap. Raises InputError for a checkpoint that is missing or not such a file."""

    about = About(rate="48 kHz", window="10 s", dim="512", licence=LICENCE, checkpoints=CHECKPOINTS)
    same_length = False

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source, weights = read_laion(checkpoint)
        super().__init__(source, dtype)
        self.licence = source.licence or LICENCE
        self.trained_on = source.trained_on

        config = config_of(weights, checkpoint)
        channels = config.audio_config.patch_embeds_hidden_size
        if channels not in _NETWORKS:
            raise InputError(
                f"{checkpoint}: laion-clap has no HTSAT with {channels} channels; use laion:{checkpoint}"
            )
        network = _module(config, _NETWORKS[channels], tokenizer_of(source, TOKENIZER))
        fill(network.model, weights, checkpoint, FAMILY, [POSITION_IDS])
        self.put_together(checkpoint, network.to(device).eval(), None, network.tokenize)

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes; the package has no feature extractor."""
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self._audio = network.model_cfg["audio_cfg"]
        self.sample_rate, self.window = self._audio["sample_rate"], self._audio["clip_samples"]
        self.fill = "repeat_pad"
        self.dim = network.model.joint_embed_shape
        self.logit_scale = network.model.logit_scale_a
        self.max_tokens = min(MAX_TOKENS, tokenizer.model_max_length)
        # Spectra are computed inside the network: keep them in float32, whatever its dtype.
        branch = network.model.audio_branch
        for part in (branch.spectrogram_extractor, branch.logmel_extractor):
            part.forward = torch.autocast(self.device.type, enabled=False)(part.forward)

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return the package's features of each clip, see `AudioLanguageModel.features`.

        waveform (B, window), longer (B, 1) and, with fusion, mel_fusion (B, 4, frames, bins).
        """
        from laion_clap.training.data import get_audio_features  # pyright: ignore[reportMissingImports]

        truncating = (
            "fusion" if self.network.enable_fusion else "rand_trunc"
        )  # truncation does not occur here
        with _quiet():
            samples = [
                get_audio_features(
                    {}, clip.to(self.device), self.window, truncating, "repeatpad", self._audio
                )
                for clip in clips
            ]
        return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        model = self.network.model
        return model.audio_projection(model.encode_audio(inputs, self.device)["embedding"])

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self.network.model.encode_text(inputs, self.device)


def _module(config: Any, network: str, tokenizer: Any) -> Any:
    """Return the CLAP_Module of a ClapConfig with random weights, on the CPU, with this tokenizer."""
    text = {**config.text_config.to_dict(), "model_type": "roberta"}
    roberta = RobertaModel(RobertaConfig(**text))
    with _without_hub(tokenizer, roberta):
        try:
            path = list(sys.path)
            try:
                import laion_clap  # pyright: ignore[reportMissingImports]  (an extra)
            finally:
                sys.path[:] = path
        except ImportError as error:
            raise InputError(
                f"laion-package needs the extra laion: pip install 'zsfuse-ray[laion]' ({error}); or use "
                "laion:CHECKPOINT, which does not need it"
            ) from error
        with _quiet():
            return laion_clap.CLAP_Module(config.audio_config.enable_fusion, device="cpu", amodel=network)


@contextmanager
def _without_hub(tokenizer: Any, roberta: Any) -> Iterator[None]:
    """Make from_pretrained of the classes that the package uses return these objects."""
    given = [
        (BertTokenizer, None),
        (BartTokenizer, None),
        (RobertaTokenizer, tokenizer),
        (RobertaModel, roberta),
    ]
    with ExitStack() as stack:
        for part, value in given:
            stack.enter_context(patch.object(part, "from_pretrained", lambda *_, value=value, **__: value))
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warnings about the package's deprecated calls."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid|Argument 'onesided'")
        yield
