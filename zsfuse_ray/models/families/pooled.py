"""The `pooled` families: a specialist and an ALM on one frozen speech encoder, which runs once for both.

`pooled` is the classifier of a checkpoint, `pooled-alm` its projection beside a text encoder. Both of one
process share the network, and the vectors of the clips that either has encoded last.
"""

from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AutoFeatureExtractor, AutoTokenizer

from zsfuse_ray.audio.features import WhisperClipMel
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.readout import Layer
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.find import Checkpoint, resolve
from zsfuse_ray.models.checkpoints.load import download, load_model, load_part
from zsfuse_ray.models.families.classifier import label_names
from zsfuse_ray.models.networks.pooled import PooledNetwork

_KEPT = 4096  # vectors: more than the clips of a bundle
_SHORTEST_S = 0.1  # a shorter clip is zero-padded


class Trunk:
    """A checkpoint's network on a device: clips → vectors, each clip once."""

    def __init__(self, network: PooledNetwork, extractor: Any, dtype: torch.dtype):
        self.network, self.extractor, self.dtype = network, extractor, dtype
        self.front = WhisperClipMel(extractor)
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def device(self) -> torch.device:
        """Current device of the weights."""
        return self.network.logit_scale.device

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return log-mels (B, bands, T) of 1-D float clips, and the filled `frames` (B,)."""
        shortest = int(_SHORTEST_S * self.extractor.sampling_rate)
        clips = [pad(clip.to(self.device), (0, max(0, shortest - len(clip)))) for clip in clips]
        return self.front.to(self.device)(clips)

    @torch.no_grad()
    def vectors(self, clips: list[Tensor]) -> Tensor:
        """Return the standardised vectors (n, V) of clips, float32; those of known clips are reused."""
        keys = [blake2b(clip.cpu().numpy().tobytes(), digest_size=16).digest() for clip in clips]
        new = {key: clip for key, clip in zip(keys, clips, strict=True) if key not in self._kept}
        if new:
            inputs = self.features(list(new.values()))
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                rows = self.network.vectors(**inputs).float()
            self._kept.update(zip(new, rows, strict=True))
        result = torch.stack([self._kept[key] for key in keys])
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result


@lru_cache(maxsize=2)
def _trunk(folder: str, revision: str | None, device: torch.device, dtype: torch.dtype) -> Trunk:
    source = download(resolve(folder))
    return Trunk(load_model(PooledNetwork, source, device), load_part(AutoFeatureExtractor, source), dtype)


def _open(checkpoint: str, device: str | torch.device, dtype: torch.dtype) -> tuple[Checkpoint, Trunk]:
    source = resolve(checkpoint)
    if (kind := source.config.get("model_type")) != "pooled":
        raise InputError(f"{checkpoint} is no pooled model: config.json has model_type {kind!r}")
    return download(source), _trunk(checkpoint, source.revision, torch.device(device), dtype)


def _layer(linear: nn.Linear) -> Layer:
    weight, bias = (value.detach().float().cpu().numpy() for value in (linear.weight, linear.bias))
    return weight, bias


class Pooled:
    """Audio → logits of the classifier on the pooled vector; a `Specialist`."""

    about = About(
        rate="16 kHz",
        window="30 s, not padded",
        dim="its labels",
        licence="the checkpoint's own",
        checkpoints=("mini", "FOLDER (of python -m dev.mini)"),
    )
    kind: Literal["specialist"] = "specialist"
    fill: Literal["none"] = "none"
    same_length = False
    vectors_trained_on = ()  # the trunk is frozen: only the heads have seen the data of the card

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source, self._trunk = _open(checkpoint, device, dtype)
        self.labels = label_names(source)
        self.revision, self.licence, self.trained_on = source.revision, source.licence, source.trained_on
        self.sample_rate: int = self._trunk.extractor.sampling_rate
        self.window: int | None = self._trunk.front.window
        self.vector_dim: int | None = len(self._trunk.network.mean)

    @property
    def classifier(self) -> Layer:
        """Weight and bias of the head, for vectors that are normalised after encoding."""
        return _layer(self._trunk.network.classifier)

    @torch.no_grad()
    def classify(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return logits and vectors, see `Specialist.classify`; the vectors are standardised."""
        vectors = self._trunk.vectors(clips)
        return self._trunk.network.classifier(vectors), vectors


class PooledAlm(AudioLanguageModel):
    """The projection of the pooled vector into the space of a text encoder."""

    about = About(
        rate="16 kHz",
        window="30 s, not padded",
        dim="the text encoder's",
        licence="the checkpoint's own",
        checkpoints=("mini", "FOLDER (of python -m dev.mini)"),
    )

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source, trunk = _open(checkpoint, device, dtype)
        super().__init__(source, dtype)
        self._trunk = trunk
        self.put_together(checkpoint, trunk.network, trunk.extractor, load_part(AutoTokenizer, source))

    @classmethod
    def of_trunk(cls, trunk: Trunk, tokenizer: Any) -> "PooledAlm":
        """Return the ALM of a trunk in memory."""
        model = cls.__new__(cls)
        model.revision, model.licence, model.trained_on, model.dtype = None, None, (), trunk.dtype
        model._trunk = trunk
        model.put_together("the new model", trunk.network, trunk.extractor, tokenizer)
        return model

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes, see `AudioLanguageModel.put_together`."""
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self.sample_rate, self.window = extractor.sampling_rate, self._trunk.front.window
        self.fill, self.same_length = "none", False
        self.dim, self.logit_scale = network.config.projection_dim, network.logit_scale
        positions = network.text_model.config.max_position_embeddings
        self.max_tokens = min(positions, tokenizer.model_max_length)

    @property
    def trunk(self) -> Trunk:
        """The frozen encoder, for heads that are trained on its vectors."""
        return self._trunk

    @property
    def projection(self) -> tuple[Layer, Layer]:
        """Both layers of the audio projection, for vectors that are normalised after encoding."""
        first, _, second = self.network.audio_projection
        return _layer(first), _layer(second)

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return the trunk's inputs, see `AudioLanguageModel.features`."""
        return self._trunk.features(clips)

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        return self.network.audio_projection(self.network.vectors(**inputs))

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        return self.network.text(input_ids, attention_mask)

    @torch.no_grad()
    def embed_audio(self, clips: list[Tensor]) -> Tensor:
        """Return (n, dim) normalised embeddings, see `AudioLanguageModel.embed_audio`."""
        rows = self.network.audio_projection(self._trunk.vectors(clips))
        return torch.nn.functional.normalize(rows, dim=-1)
