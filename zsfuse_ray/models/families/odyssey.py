"""The Odyssey 2024 baseline: 3loi/SER-Odyssey-Baseline-WavLM-Categorical, trained on MSP-Podcast.

Goncalves et al. 2024, "Odyssey 2024 - Speech Emotion Recognition Challenge"; code in
github.com/MSP-UTD/MSP-Podcast_Challenge and in the checkpoint's repository, whose class `SERModel` defines
the names of the weights. WavLM's last hidden state → attentive statistics pooling (Okabe et al. 2018) →
Linear, LayerNorm, ReLU, Linear. Labels Angry, Sad, Happy, Surprise, Fear, Disgust, Contempt, Neutral. 16 kHz;
samples are normalised by the mean and standard deviation of the training audio, given in config.json. Licence
MIT. The vector is the input of the last linear layer.

Deliberate differences from the reference:
- The reference encodes the first 12 s of a clip. Here 12 s is the window, and all of a longer clip is
  encoded, window by window; ``--long crop`` gives the reference's behaviour.
- In a batch, the reference pools over a clip's frames and one frame of padding. Here a clip is pooled over
  its own frames only, as in the reference without a batch.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from zsfuse_ray.audio.features import Waveforms
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights
from zsfuse_ray.models.families.classifier import label_names
from zsfuse_ray.models.networks.configs import speech_config
from zsfuse_ray.models.networks.sizes import Sizes
from zsfuse_ray.models.networks.speech import MASK_EMBEDDING, frame_mask, receptive_field

LABELS = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
_FAMILY = "Odyssey"
_RATE = 16_000
_SECONDS = 12
_ATTRIBUTES = {
    "arousal",
    "valence",
    "dominance",
}  # outputs of the challenge's other baselines


class Odyssey:
    """Audio → logits over eight emotions; a `Specialist`.

    Raises InputError for a checkpoint that is missing, of another family, or predicts attributes.
    """

    about = About(
        rate="16 kHz",
        window="12 s",
        dim="8 labels",
        licence="MIT",
        checkpoints=("3loi/SER-Odyssey-Baseline-WavLM-Categorical",),
    )
    kind: Literal["specialist"] = "specialist"
    fill: Literal["none"] = "none"
    sample_rate: int = _RATE
    same_length: bool = False  # the mask makes padding harmless

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = resolve(checkpoint)
        _check(source)
        self.window: int | None = source.config.get("maxlen", _SECONDS * _RATE)
        self._mean, self._std = (float(source.config[key]) for key in ("mean", "std"))
        source = download(source)
        self.revision: str | None = source.revision
        self.licence: str | None = source.licence or self.about.licence
        self.trained_on = source.trained_on
        self.device, self.dtype = torch.device(device), dtype

        weights = read_weights(source)
        sizes = Sizes(weights, checkpoint, _FAMILY)
        config = speech_config(Sizes(weights, checkpoint, _FAMILY, "ssl_model."), WavLMConfig)
        layers = [
            sizes.of(f"ser_model.fc.{i}.0.weight", 2) for i in range(sizes.count("ser_model.fc.{}.0.weight"))
        ]
        outputs, width = sizes.of("ser_model.out.0.weight", 2)
        self.labels = _labels(source, outputs)
        self.vector_dim: int | None = width
        network = sizes.build(lambda: _Network(config, layers, width, outputs))
        self._network = fill(network, weights, checkpoint, _FAMILY, [MASK_EMBEDDING]).to(self.device)
        self._shortest = receptive_field(config)
        self._features = Waveforms(Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True))

    @torch.inference_mode()
    def classify(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return logits and vectors, see `Specialist.classify`.

        A clip shorter than 25 ms is zero-padded.
        """
        normalised = [(clip.to(self.device) - self._mean) / (self._std + 1e-6) for clip in clips]
        inputs = self._features([pad(c, (0, max(0, self._shortest - len(c)))) for c in normalised])
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits, vectors = self._network(**inputs)
        return logits.float(), vectors.float()


class _Network(nn.Module):
    def __init__(self, config: Any, layers: Sequence[tuple[int, ...]], width: int, labels: int):
        super().__init__()
        self.ssl_model: Any = WavLMModel(config)
        self.pool_model = _AttentivePooling(config.hidden_size)
        hidden = [nn.Sequential(nn.Linear(n, m), nn.LayerNorm(m), nn.ReLU()) for m, n in layers]
        self.ser_model = nn.ModuleDict(
            {"fc": nn.Sequential(*hidden), "out": nn.Sequential(nn.Linear(width, labels))}
        )

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        frames = self.ssl_model(input_values, attention_mask=attention_mask).last_hidden_state
        pooled = self.pool_model(frames, frame_mask(self.ssl_model.config, attention_mask))
        vectors = self.ser_model["fc"](pooled)
        return self.ser_model["out"](vectors), vectors


class _AttentivePooling(nn.Module):
    """Attention-weighted mean and standard deviation over time: (B, frames, n), (B, frames) → (B, 2n)."""

    def __init__(self, size: int):
        super().__init__()
        self.sap_linear = nn.Linear(size, size)
        self.attention = nn.Parameter(torch.empty(size, 1))

    def forward(self, frames: Tensor, own: Tensor) -> Tensor:
        scores = torch.tanh(self.sap_linear(frames)) @ self.attention
        weights = scores.float().masked_fill(~own[..., None], -torch.inf).softmax(dim=1)
        frames = frames.float()  # a small difference of large numbers follows
        mean = (frames * weights).sum(dim=1)
        variance = (frames.square() * weights).sum(dim=1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)


def _check(source: Checkpoint) -> None:
    """Raise InputError unless config.json is of this family and its values are valid."""
    config, name = source.config, source.path_or_id
    if config.get("model_type") != "ser":
        raise InputError(
            f"{name} is not an Odyssey model: config.json has model_type {config.get('model_type')!r}, "
            "expected 'ser'"
        )
    for key in ("mean", "std"):
        if not _is_number(config.get(key)):
            raise InputError(f"{name}: config.json has no number {key!r}, needed to normalise the samples")
    if config["std"] <= 0:
        raise InputError(f"{name}: std in config.json is {config['std']}, expected a number above 0")
    if config.get("sampling_rate", _RATE) != _RATE:
        raise InputError(f"{name}: sampling_rate is {config['sampling_rate']}, expected {_RATE}")
    window = config.get("maxlen", _SECONDS * _RATE)
    if not isinstance(window, int) or isinstance(window, bool) or window < _RATE:
        raise InputError(f"{name}: maxlen in config.json is {window!r}, expected at least {_RATE} samples")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _labels(source: Checkpoint, outputs: int) -> tuple[str, ...]:
    labels = label_names(source) or LABELS
    if _ATTRIBUTES & {label.lower() for label in labels} or outputs < 2:
        raise InputError(
            f"{source.path_or_id} predicts attributes such as arousal, not labels; "
            f"expected one like {Odyssey.about.checkpoints[0]}"
        )
    if len(labels) != outputs:
        raise InputError(
            f"{source.path_or_id}: {outputs} outputs, but {len(labels)} labels: {', '.join(labels)}"
        )
    return labels
