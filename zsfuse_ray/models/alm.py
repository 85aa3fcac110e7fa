"""Common base of the audio-language model families: two towers with one interface."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import ClapFeatureExtractor

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method.amplify import Fill
from zsfuse_ray.models.about import About
from zsfuse_ray.models.batching import run_batched
from zsfuse_ray.models.checkpoints.find import Checkpoint
from zsfuse_ray.models.checkpoints.load import quiet

_FILLS: dict[str, Fill] = {"repeatpad": "repeat_pad", "repeat": "circular", "pad": "none"}
_TEXT_BATCH_TOKENS = 16_384


class AudioLanguageModel(ABC):
    """A dual encoder of audio and text.

    sample_rate: in Hz; window: in samples, None for any length; fill: how the model tiles a shorter clip;
    same_length: padding would change the results, so only clips of equal length may share a batch; dim: size
    of an embedding; max_tokens: texts are truncated to this; network: the module with the weights. A family
    sets these and implements the two towers; training and inference share the rest.
    """

    kind = "alm"
    labels = None

    about: About
    sample_rate: int
    window: int | None
    fill: Fill
    same_length: bool
    dim: int
    max_tokens: int
    network: Any
    logit_scale: nn.Parameter  # the network's: log of the factor of the cosine of two embeddings
    extractor: Any
    tokenizer: Any

    def __init__(self, source: Checkpoint, dtype: torch.dtype):
        self.revision, self.licence, self.dtype = source.revision, source.licence, dtype
        self.trained_on = source.trained_on

    @classmethod
    def of_parts(cls, network: Any, extractor: Any, tokenizer: Any) -> Self:
        """Return a model from parts in memory, computing in float32; InputError if they do not fit."""
        model = cls.__new__(cls)
        model.revision, model.licence, model.trained_on, model.dtype = None, None, (), torch.float32
        model.put_together("the new model", network.eval(), extractor, tokenizer)
        return model

    @abstractmethod
    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes derived from the parts; `name` is for messages."""

    @property
    def device(self) -> torch.device:
        """Current device of the weights; training moves them."""
        return self.logit_scale.device

    @abstractmethod
    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return the audio tower's inputs, on the model's device, for 1-D float clips at `sample_rate`."""

    @abstractmethod
    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of the output of `features`. Differentiable."""

    @abstractmethod
    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of the output of `tokens`. Differentiable."""

    @property
    def scale(self) -> float:
        """Factor of the cosine of two embeddings."""
        return self.logit_scale.exp().item()

    # no_grad, not inference_mode: tensors cached by layers must remain usable in training
    @torch.no_grad()
    def embed_audio(self, clips: list[Tensor]) -> Tensor:
        """Return (n, dim) normalised float32 embeddings of 1-D float clips at `sample_rate`.

        Clips are at most `window` long and already repeated according to `fill`; zeros are appended. Each row
        depends on its clip alone, given equal lengths if `same_length`.
        """
        inputs = self.features(clips)
        with self.autocast():
            embeddings = self.audio(inputs)
        return normalize(embeddings.float(), dim=-1)

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> tuple[Tensor, list[bool]]:
        """Return (n, dim) normalised float32 embeddings, and for each text whether it was truncated."""
        rows, truncated = self.tokens(texts)
        embeddings = run_batched(self._embed_tokens, rows, [len(row) for row in rows], _TEXT_BATCH_TOKENS)
        return embeddings, truncated

    def tokens(self, texts: list[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids of each text, on the device, and whether it was truncated to `max_tokens`."""
        full = self.tokenizer(texts, verbose=False).input_ids
        kept = self.tokenizer(texts, truncation=True, max_length=self.max_tokens).input_ids
        rows = [torch.tensor(ids, device=self.device) for ids in kept]
        return rows, [len(all_ids) > len(ids) for all_ids, ids in zip(full, kept, strict=True)]

    def pad_tokens(self, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the rows of `tokens` as one (B, length) tensor of ids, and their mask."""
        padding = self.tokenizer.pad_token_id
        ids = pad_sequence(rows, batch_first=True, padding_value=0 if padding is None else padding)
        return ids, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write a loadable folder: config, weights in dtype, feature extractor and tokenizer.

        A weight that overflows the dtype is kept in float32.
        """
        weights = {}
        for name, value in self.network.state_dict().items():
            small = value.to(dtype) if value.is_floating_point() else value
            kept = small if small.isfinite().all() or not value.isfinite().all() else value
            weights[name] = kept.contiguous()
        with quiet():
            self.network.save_pretrained(folder, state_dict=weights)
            self.extractor.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def autocast(self) -> torch.autocast:
        """Return the context in which the towers compute in the model's dtype."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _embed_tokens(self, rows: list[Tensor]) -> Tensor:
        with self.autocast():
            embeddings = self.text(*self.pad_tokens(rows))
        return normalize(embeddings.float(), dim=-1)


def fill_of(extractor: Any, checkpoint: str) -> Fill:
    """Return how CLAP's feature extractor tiles a short clip; "none" for other extractors."""
    if not isinstance(extractor, ClapFeatureExtractor):
        return "none"
    if extractor.padding not in _FILLS:
        raise InputError(
            f"{checkpoint}: unknown padding {extractor.padding}{nearest(extractor.padding, _FILLS)}"
        )
    return _FILLS[extractor.padding]
