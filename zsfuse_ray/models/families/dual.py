"""The `dual` family: any audio encoder and any text encoder of transformers, each with a projection."""

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, PreTrainedModel

from zsfuse_ray.audio.features import FRONT_ENDS, AstFbank, ClapMel, SeamlessFbank, Waveforms, WhisperMel
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel, fill_of
from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import download, load_model, load_part
from zsfuse_ray.models.networks.dual import POOLINGS, PROJECTIONS, DualNetwork
from zsfuse_ray.models.networks.speech import heeds_mask, receptive_field

DUAL_FRONT_ENDS: dict[str, Any] = {**FRONT_ENDS, "ClapFeatureExtractor": ClapMel}

# Without a window, clips for an image encoder are padded to a multiple of this many frames: clips of similar
# length can share a batch, and the padded length depends on the clip alone.
_IMAGE_FRAMES = 64


class Dual(AudioLanguageModel):
    """A dual encoder of any two encoders.

    Raises InputError for a checkpoint that is missing, of another family, or whose parts do not fit.
    """

    about = About(
        rate="the audio encoder's",
        window="the audio encoder's",
        dim="any",
        licence="the checkpoint's own",
        checkpoints=("FOLDER (of zsfuse train --task alm)",),
    )

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        _check(source)
        source = download(source)
        super().__init__(source, dtype)

        extractor, tokenizer = load_part(AutoFeatureExtractor, source), load_part(AutoTokenizer, source)
        self.put_together(checkpoint, load_model(DualNetwork, source, device), extractor, tokenizer)

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes, see `AudioLanguageModel.put_together`."""
        kind = type(extractor).__name__
        if kind not in DUAL_FRONT_ENDS:
            raise InputError(f"{name}: unsupported feature extractor {kind}{nearest(kind, DUAL_FRONT_ENDS)}")
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self._front: Any = DUAL_FRONT_ENDS[kind](extractor)
        self.sample_rate = extractor.sampling_rate
        self.window = self._front.window
        self.fill = fill_of(extractor, name)
        self.dim = network.config.projection_dim
        self.logit_scale = network.logit_scale
        self.max_tokens = min(_positions(network.text_model), tokenizer.model_max_length)

        encoder = network.audio_model
        self._image = encoder.main_input_name == "pixel_values"
        self._takes_mask = "attention_mask" in inspect.signature(encoder.forward).parameters
        self._shortest = max(getattr(self._front, "minimum", 1), receptive_field(encoder.config))
        self.same_length = False
        if isinstance(self._front, Waveforms):
            # use the mask even if the feature extractor is not configured to return one
            self._front.masked = heeds_mask(encoder.config)
            self.same_length = not self._front.masked
        self._check_parts(name)

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return the audio encoder's inputs, see `AudioLanguageModel.features`.

        A clip too short for the first layers is zero-padded. `filled`, (B,), for encoders without a mask: the
        share of the time axis that a clip fills.
        """
        clips = [pad(c.to(self.device), (0, max(0, self._shortest - len(c)))) for c in clips]
        given = self._front.to(self.device)(clips)
        inputs = {"input_features": given} if isinstance(given, Tensor) else given
        if self._image:
            return self._picture(next(iter(inputs.values())), clips)
        if isinstance(self._front, WhisperMel):
            shares = [len(clip) / self._front.window for clip in clips]
            inputs["filled"] = torch.tensor(shares, device=self.device)
        if "attention_mask" in inputs and not self._takes_mask:
            del inputs["attention_mask"]
        return inputs

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        return self.network.audio(inputs)

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        return self.network.text(input_ids, attention_mask)

    def embed_audio(self, clips: list[Tensor]) -> Tensor:
        """Return (n, dim) normalised embeddings, see `AudioLanguageModel.embed_audio`."""
        if not self._image:
            return super().embed_audio(clips)
        widths: dict[int, list[int]] = {}
        for i, clip in enumerate(clips):
            widths.setdefault(self._columns(len(clip)), []).append(i)
        rows = {}
        for group in widths.values():
            rows.update(zip(group, super().embed_audio([clips[i] for i in group]), strict=True))
        return torch.stack([rows[i] for i in range(len(clips))])

    def _picture(self, features: Tensor, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return log-mels of the clips as images (B, 1, time, mels), as wide as the longest requires."""
        if isinstance(self._front, WhisperMel):
            features = features.transpose(1, 2)
        features = features.reshape(len(clips), *features.shape[-2:])
        width = max(self._columns(len(clip)) for clip in clips)
        features = pad(features, (0, 0, 0, max(0, width - features.shape[1])))[:, :width]
        config = self.network.config.audio_config
        features = features - getattr(config, "features_mean", 0.0)
        features = features / getattr(config, "features_std", 1.0)
        filled = torch.tensor([self._frames(len(clip)) / width for clip in clips], device=self.device)
        return {"pixel_values": features[:, None], "filled": filled}

    def _columns(self, samples: int) -> int:
        """Return the width in frames of a clip's image: the window, or a multiple of _IMAGE_FRAMES."""
        if self.window is not None:
            return self._frames(self.window)
        return -(-self._frames(max(samples, self._shortest)) // _IMAGE_FRAMES) * _IMAGE_FRAMES

    def _frames(self, samples: int) -> int:
        """Return the number of feature frames of a clip."""
        if isinstance(self._front, SeamlessFbank | AstFbank):
            return self._front.fbank.frames(samples) // getattr(self._front, "stride", 1)
        return samples // self._front.mel.hop + 1

    def _check_parts(self, checkpoint: str) -> None:
        """Embed a short silence and a word: the only way to check whether the parts fit."""
        try:
            audio = self.embed_audio([torch.zeros(self._shortest)])
            text, _ = self.embed_text(["a"])
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # third-party encoders may raise anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(f"{checkpoint}: its parts are incompatible: {reason}") from error
        if not (audio.isfinite().all() and text.isfinite().all()):
            raise InputError(f"{checkpoint}: its embeddings are not finite")


def _check(source: Checkpoint) -> None:
    """Raise InputError if config.json is not that of a dual encoder."""
    config, name = source.config, source.path_or_id
    if config.get("model_type") != "dual":
        raise InputError(
            f"{name} is not a dual encoder: config.json has model_type {config.get('model_type')!r}"
        )
    for part in ("audio_config", "text_config"):
        given = config.get(part)
        kind = str(given.get("model_type")) if isinstance(given, dict) else ""
        try:
            AutoConfig.for_model(kind)
        except (ValueError, TypeError) as error:
            raise InputError(f"{name}: {part} in config.json has an unknown model_type: {kind!r}") from error
    for option, known in (
        ("projection", PROJECTIONS),
        ("audio_pooling", POOLINGS),
        ("text_pooling", POOLINGS),
    ):
        value = config.get(option, known[0])
        if value not in known:
            raise InputError(f"{name}: unknown {option} {value}{nearest(str(value), known)}")


def _positions(text_model: PreTrainedModel) -> int:
    """Return the maximum number of tokens of a text encoder; 1,000,000 without position embeddings."""
    positions = getattr(text_model.config, "max_position_embeddings", None) or 1_000_000
    for name, module in text_model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and isinstance(padding, int):
            # the positions of RoBERTa and similar encoders start after that of the padding token
            return positions - padding - 1
    return positions
