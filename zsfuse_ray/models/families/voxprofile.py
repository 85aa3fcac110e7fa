"""Vox-Profile's emotion models: WavLM-Large and Whisper-Large v3, trained on MSP-Podcast.

Feng et al. 2025 (arXiv 2505.14648); code in github.com/tiantiaf0627/vox-profile-release (`WavLMWrapper`,
`WhisperWrapper`), whose checkpoints consist of config.json and model.safetensors. Labels Anger, Contempt,
Disgust, Fear, Happiness, Neutral, Sadness, Surprise, Other. 16 kHz, 15 s. Licence: the repository's RAIL,
which prohibits surveillance among others; its README adds: no commercial use.

WavLM: each clip normalised to mean 0 and standard deviation 1; a softmax-weighted sum of the hidden states.
Whisper: log-mel of a clip zero-padded to 15 s; the encoder's last state. Both: three convolutions of width 1,
the mean over the clip's own frames, two linear layers; the vector is the input of the second. Low-rank
adapters (of rank 16 in Whisper) are merged into the weights on loading; heads for other traits and Whisper's
decoder are ignored.

Deliberate differences from the reference:
- The reference normalises a clip for WavLM after padding the batch, so that padding changes the result. Here
  each clip is normalised separately, as in the reference without a batch.
- The reference encodes the first 15 s of a clip. Here 15 s is the window, and all of a longer clip is
  encoded, window by window; ``--long crop`` gives the reference's behaviour.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import (
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from zsfuse_ray.audio.features import Waveforms, WhisperMel
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, without_adapters
from zsfuse_ray.models.networks.configs import speech_config, whisper_config
from zsfuse_ray.models.networks.sizes import Sizes
from zsfuse_ray.models.networks.speech import MASK_EMBEDDING, frame_mask, receptive_field

LABELS = (
    "Anger",
    "Contempt",
    "Disgust",
    "Fear",
    "Happiness",
    "Neutral",
    "Sadness",
    "Surprise",
    "Other",
)
_FAMILY = "Vox-Profile emotion"
_SECONDS = 15
_POSITIONS = 750  # Whisper's for 15 s: one per 20 ms
_BACKBONE = "backbone_model."
_WHISPERS = ("whisper_tiny", "whisper_base", "whisper_small", "whisper_medium", "whisper_large")
_POSITION_NAMES = ("embed_positions", f"{_BACKBONE}encoder.embed_positions.weight")
# Other weights in a checkpoint: heads for other traits, Whisper's decoder.
_OTHERS = (
    r"(detailed_out|arousal|valence|dominance)_layer\..*",
    rf"{_BACKBONE}decoder\..*",
    MASK_EMBEDDING,
)


class VoxProfile:
    """Audio → logits over nine emotions, by WavLM or Whisper according to config.json; a `Specialist`.

    Raises InputError for a checkpoint that is missing, of another family, or of another trait.
    """

    about = About(
        rate="16 kHz",
        window="15 s",
        dim="9 labels",
        licence="RAIL, no commercial use",
        checkpoints=(
            "tiantiaf/wavlm-large-categorical-emotion",
            "tiantiaf/whisper-large-v3-msp-podcast-emotion",
        ),
    )
    kind: Literal["specialist"] = "specialist"
    fill: Literal["none"] = "none"
    labels: tuple[str, ...] = LABELS
    sample_rate: int = 16_000
    window: int | None = _SECONDS * sample_rate
    same_length: bool = False  # WavLM's mask makes padding harmless; Whisper's input is always 15 s

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        backbone = source.config.get("pretrain_model")
        if backbone != "wavlm_large" and backbone not in _WHISPERS:
            raise InputError(
                f"{checkpoint} is not a {_FAMILY} model: config.json has pretrain_model {backbone!r}, "
                "expected wavlm_large or whisper_large"
            )
        source = download(source)
        self.revision: str | None = source.revision
        self.licence: str | None = source.licence or self.about.licence
        self.trained_on = source.trained_on
        self.device, self.dtype = torch.device(device), dtype

        weights = without_adapters(read_weights(source), checkpoint)
        parts = _wavlm if backbone == "wavlm_large" else _whisper
        features, network = parts(weights, checkpoint)
        self._features, self._network = features.to(self.device), network.to(self.device)
        self.vector_dim: int | None = network.width

    @torch.inference_mode()
    def classify(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return logits and vectors, see `Specialist.classify`.

        The authors trained on 3 to 15 s and call results on shorter clips unreliable. A clip too short for
        one frame is zero-padded.
        """
        inputs = self._features([clip.to(self.device) for clip in clips])
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits, vectors = self._network(*inputs)
        return logits.float(), vectors.float()


class _Head(nn.Module):
    """Common head of both networks: frames (B, T, n) and their mask (B, T) → logits and vectors."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.width = width
        steps = [nn.Conv1d(size, width, 1), nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)]
        gap = (nn.ReLU(), nn.Identity())  # dropout in training
        self.model_seq = nn.Sequential(steps[0], *gap, steps[1], *gap, steps[2])
        self.emotion_layer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(LABELS)))

    def classify(self, frames: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model_seq(frames.transpose(1, 2)).float() * own[:, None]
        first, relu, last = self.emotion_layer
        vectors = relu(first(features.sum(dim=2) / own.sum(dim=1, keepdim=True)))
        return last(vectors), vectors


class _WavLM(_Head):
    def __init__(self, config: WavLMConfig, width: int, states: int):
        super().__init__(config.hidden_size, width)
        self.backbone_model: Any = WavLMModel(config)
        self.weights = nn.Parameter(torch.empty(states))

    def forward(self, waveforms: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        given = self.backbone_model(waveforms, attention_mask=mask, output_hidden_states=True)
        # The last state is after the final normalisation; some versions of transformers do not list it.
        states = [*given.hidden_states[:-1], given.last_hidden_state][-len(self.weights) :]
        shares = self.weights.float().softmax(dim=0)
        frames = torch.stack([share * state for share, state in zip(shares, states, strict=True)]).sum(dim=0)
        return self.classify(frames, frame_mask(self.backbone_model.config, mask))


class _Whisper(_Head):
    def __init__(self, config: WhisperConfig, width: int):
        super().__init__(config.d_model, width)
        self.backbone_model = nn.ModuleDict({"encoder": WhisperEncoder(config)})

    def forward(self, mels: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        return self.classify(self.backbone_model["encoder"](mels).last_hidden_state, own)


class _Waves(nn.Module):
    """Clips → (B, samples) normalised, and their mask."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.shortest = receptive_field(config)
        self.front = Waveforms(Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True))

    def forward(self, clips: list[Tensor]) -> tuple[Tensor, Tensor]:
        inputs = self.front([pad(clip, (0, max(0, self.shortest - len(clip)))) for clip in clips])
        return inputs["input_values"], inputs["attention_mask"]


class _Mels(nn.Module):
    """Clips → (B, bins, frames), and a mask of Whisper's positions within the clip, (B, positions)."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=_SECONDS)
        self.front = WhisperMel(extractor)

    def forward(self, clips: list[Tensor]) -> tuple[Tensor, Tensor]:
        mels = self.front(clips)["input_features"]
        own = torch.tensor([max(1, (len(clip) // 160 + 1) // 2) for clip in clips], device=mels.device)
        return mels, torch.arange(_POSITIONS, device=mels.device) < own[:, None]


def _wavlm(weights: Mapping[str, Tensor], name: str) -> tuple[nn.Module, _Head]:
    sizes = Sizes(weights, name, _FAMILY)
    config: Any = speech_config(Sizes(weights, name, _FAMILY, _BACKBONE), WavLMConfig)
    width, (states,) = sizes.of("model_seq.0.weight", 3)[0], sizes.of("weights", 1)
    if states not in (config.num_hidden_layers, config.num_hidden_layers + 1):
        raise InputError(
            f"{name}: not a valid {_FAMILY} checkpoint: weights for {states} hidden states "
            f"of {config.num_hidden_layers} layers"
        )
    network = sizes.build(lambda: _WavLM(config, width, states))
    return _Waves(config), fill(network, weights, name, _FAMILY, _OTHERS)


def _whisper(weights: Mapping[str, Tensor], name: str) -> tuple[nn.Module, _Head]:
    # Drop an unused layer sum; positions have one of two names, and 15 s need only the first of them.
    positions = next((weights[key][:_POSITIONS] for key in _POSITION_NAMES if key in weights), None)
    weights = {key: value for key, value in weights.items() if key not in (*_POSITION_NAMES, "weights")}
    if positions is not None:
        weights[_POSITION_NAMES[1]] = positions
    sizes = Sizes(weights, name, _FAMILY)
    config = whisper_config(Sizes(weights, name, _FAMILY, f"{_BACKBONE}encoder."), _POSITIONS)
    width = sizes.of("model_seq.0.weight", 3)[0]
    network = sizes.build(lambda: _Whisper(config, width))
    return _Mels(config), fill(network, weights, name, _FAMILY, _OTHERS)
