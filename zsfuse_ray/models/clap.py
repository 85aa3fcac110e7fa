"""CLAP (Wu et al. 2023, arXiv 2211.06687) in transformers' form: laion/clap-htsat-unfused and its kin."""

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from zsfuse_ray.audio.features import ClapMel
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method.amplify import Fill
from zsfuse_ray.models.batching import run_batched
from zsfuse_ray.models.checkpoints import download, load_model, load_part, resolve

_FILLS: dict[str, Fill] = {"repeatpad": "repeat_pad", "repeat": "circular", "pad": "none"}
_TEXT_BATCH_TOKENS = 16_384


class Clap:
    """A dual encoder of audio and text.

    sample_rate in Hz; window in samples; fill: how the model tiles a shorter clip; scale: what multiplies
    the cosine of two embeddings. Raises InputError for a checkpoint that is missing or no CLAP model.
    """

    kind = "alm"
    labels = None
    same_length = False

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        found = resolve(checkpoint)
        model_type = found.config.get("model_type")
        if model_type != "clap":
            raise InputError(f"{checkpoint} is no CLAP model: its config.json has model_type {model_type!r}")
        found = download(found)
        self.revision, self.licence = found.revision, found.licence
        self.device, self.dtype = torch.device(device), dtype

        extractor = load_part(ClapFeatureExtractor, found)
        self.sample_rate: int = extractor.sampling_rate
        if extractor.padding not in _FILLS:
            raise InputError(
                f"{checkpoint}: unknown padding {extractor.padding}{nearest(extractor.padding, _FILLS)}"
            )
        self.fill = _FILLS[extractor.padding]
        self._mel = ClapMel(extractor).to(self.device)
        self.window: int | None = self._mel.window

        self._tokenizer = load_part(AutoTokenizer, found)
        self._model = load_model(ClapModel, found, self.device)
        self.dim: int = self._model.config.projection_dim
        self.scale: float = self._model.logit_scale_a.exp().item()
        text = self._model.config.text_config
        # RoBERTa counts positions from the one after the padding token's.
        positions = text.max_position_embeddings - text.pad_token_id - 1
        self.max_tokens = min(positions, self._tokenizer.model_max_length)

    @torch.inference_mode()
    def embed_audio(self, clips: list[Tensor]) -> Tensor:
        """Return (n, dim) normalised float32 embeddings of 1-D float clips at `sample_rate`.

        Clips are at most `window` long and already repeated as `fill` says; zeros follow them.
        """
        mel = self._mel([clip.to(self.device) for clip in clips])
        # A checkpoint with fusion would fuse inputs marked longer than the window: none is.
        longer = torch.zeros(len(clips), 1, dtype=torch.bool, device=self.device)
        with self._autocast():
            embeddings = self._model.get_audio_features(mel, is_longer=longer).pooler_output
        return normalize(embeddings.float(), dim=-1)

    @torch.inference_mode()
    def embed_text(self, texts: list[str]) -> tuple[Tensor, list[bool]]:
        """Return (n, dim) normalised float32 embeddings, and for each text whether it was truncated."""
        full = self._tokenizer(texts, verbose=False).input_ids
        kept = self._tokenizer(texts, truncation=True, max_length=self.max_tokens).input_ids
        tokens = [torch.tensor(ids, device=self.device) for ids in kept]
        embeddings = run_batched(self._embed_tokens, tokens, [len(ids) for ids in kept], _TEXT_BATCH_TOKENS)
        return embeddings, [len(all_ids) > len(ids) for all_ids, ids in zip(full, kept, strict=True)]

    def _embed_tokens(self, tokens: list[Tensor]) -> Tensor:
        ids = pad_sequence(
            tokens, batch_first=True, padding_value=self._model.config.text_config.pad_token_id
        )
        mask = pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True)
        with self._autocast():
            embeddings = self._model.get_text_features(ids, attention_mask=mask).pooler_output
        return normalize(embeddings.float(), dim=-1)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
