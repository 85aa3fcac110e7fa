"""The network of CLSP, its log-mel, and the sizes in its config.json.

Heads ported from egs/emilia/CLAP/spear_roberta/model.py in github.com/yfyeung/icefall (commit ba0b41c,
Apache-2.0). The audio encoder is SPEAR-XLarge, a `Zipformer`; the text encoder is transformers' RobertaModel.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from zsfuse_ray.audio.features import KaldiFbank
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.networks.subsampling import FEWEST_FRAMES, Subsampling
from zsfuse_ray.models.networks.zipformer import StackSizes, Zipformer, ZipformerSizes

RATE = 16_000
_BINS = 128
_HOP, _FRAME, _FFT = 160, 400, 512
_HIGHEST_HZ = 7600

# SPEAR-XLarge, by the names of icefall's options. A list has an entry per stack, one number is for all.
_SPEAR: dict[str, Any] = {
    "encoder_dim": 1280,
    "num_heads": 8,
    "query_head_dim": 32,
    "value_head_dim": 12,
    "pos_head_dim": 4,
    "pos_dim": 48,
    "num_encoder_layers": [1, 2, 3, 4, 1, 1, 1],
    "downsampling_factor": [1, 2, 4, 8, 4, 2, 1],
    "feedforward_dim": 3840,
    "cnn_module_kernel": [31, 31, 15, 15, 15, 31, 31],
    "joint_dim": 512,
}
# roberta-base, by the names of transformers
_ROBERTA = {
    "vocab_size": 50_265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}
_LARGEST = 1_000_000  # of any size in a config.json


@dataclass(frozen=True)
class ClspSizes:
    """Sizes of the network. dim: of an embedding; text: of RobertaConfig."""

    audio: ZipformerSizes
    dim: int = _SPEAR["joint_dim"]
    text: Mapping[str, int] = field(default_factory=lambda: dict(_ROBERTA))


def clsp_sizes(config: Mapping[str, Any], name: str) -> ClspSizes:
    """Return the sizes in a config.json: those of the release where it names none.

    Options of icefall for the audio encoder, and `text_config`. InputError for an invalid value; `name` is
    for the message.
    """
    given = {key: _numbers(config.get(key, usual), key, name) for key, usual in _SPEAR.items()}
    stacks = len(given["num_encoder_layers"])
    for key, numbers in given.items():
        if len(numbers) == 1:
            given[key] = numbers * stacks
        if len(given[key]) != stacks:
            raise InputError(
                f"{name}: {key} in config.json has {len(numbers)} numbers, expected 1 or {stacks}"
            )
    per_stack = ("num_encoder_layers", "downsampling_factor", "feedforward_dim", "cnn_module_kernel")
    for key in _SPEAR.keys() - set(per_stack):
        if len(set(given[key])) > 1:
            raise InputError(f"{name}: {key} in config.json differs between stacks, which is not supported")
    if even := [number for number in given["cnn_module_kernel"] if number % 2 == 0]:
        raise InputError(f"{name}: cnn_module_kernel {even[0]} in config.json must be odd")
    dim, heads, query, value, position_query, positions = (given[key][0] for key in list(_SPEAR)[:6])
    if positions % 2:
        raise InputError(f"{name}: pos_dim {positions} in config.json must be even")
    own = config.get("text_config")
    text = (
        {**_ROBERTA, **{k: v for k, v in own.items() if k in _ROBERTA}} if isinstance(own, dict) else _ROBERTA
    )
    return ClspSizes(
        ZipformerSizes(
            dim=dim,
            heads=heads,
            query=query,
            value=value,
            position_query=position_query,
            positions=positions,
            stacks=tuple(StackSizes(*one) for one in zip(*(given[key] for key in per_stack), strict=True)),
        ),
        given["joint_dim"][0],
        {key: _numbers(value, f"text_config.{key}", name)[0] for key, value in text.items()},
    )


def _numbers(value: Any, key: str, name: str) -> list[int]:
    """Return the sizes in a number, a list, or text such as "1,2,3"."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(0 < number <= _LARGEST for number in numbers):
        raise InputError(f"{name}: {key} in config.json is {value!r:.60}, expected positive whole numbers")
    return numbers


class ClspFbank(nn.Module):
    """CLSP's log-mel: clips of equal length → (B, (samples + 80) // 160, 128), float32.

    Kaldi's filter banks of 20 to 7600 Hz without dither, of waveforms in ±1, not normalised. Frames are
    centred ("snip_edges" off): the edges of a clip are mirrored. The logarithm has torchaudio's floor, the
    epsilon of float32 (−15.94 after it), as presumably in the release; lhotse, used in its training, has
    1e-10 (−23.03), so that digital silence differs from training. Clips below 85 ms are zero-padded.
    """

    def __init__(self):
        super().__init__()
        povey = torch.hann_window(_FRAME, periodic=False).pow(0.85)
        self.fbank = KaldiFbank(povey, _HOP, _FFT, _BINS, RATE, highest_hz=_HIGHEST_HZ)
        self.shortest = FEWEST_FRAMES * _HOP - _HOP // 2  # samples

    def forward(self, clips: Sequence[Tensor]) -> Tensor:
        if len({max(len(clip), self.shortest) for clip in clips}) > 1:
            raise ValueError("clips of one batch must have the same length: padding changes the result")
        waveforms = torch.stack([nn.functional.pad(c, (0, max(0, self.shortest - len(c)))) for c in clips])
        samples = waveforms.shape[1]
        frames = (samples + _HOP // 2) // _HOP
        before = (_FRAME - _HOP) // 2
        after = self.fbank.samples(frames) - before - samples
        mirrored = [waveforms[:, :before].flip(1), waveforms, waveforms[:, -after:].flip(1)]
        return self.fbank(torch.cat(mirrored, dim=1))


class ClspNetwork(nn.Module):
    """Both towers, under the names of the training code. logit_scale: log of the factor of the cosine."""

    def __init__(self, sizes: ClspSizes):
        super().__init__()
        self.dim = sizes.dim
        self.encoder_embed = Subsampling(_BINS, sizes.audio.dim)
        self.encoder = Zipformer(sizes.audio)
        self.audio_projection, self.audio_transform = _heads(sizes.audio.dim, sizes.dim)
        self.text_encoder = RobertaModel(_roberta(sizes.text))
        # no checkpoint has its constants, so that they are needed even if the weights are on the meta device
        embeddings: Any = self.text_encoder.embeddings
        embeddings.position_ids = torch.arange(sizes.text["max_position_embeddings"], device="cpu")[None]
        embeddings.token_type_ids = embeddings.position_ids * 0
        self.text_projection, self.text_transform = _heads(sizes.text["hidden_size"], sizes.dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def frames(self, mel: Tensor) -> Tensor:
        """Return the audio encoder's output (B, T, encoder dim), at 25 Hz, of log-mels (B, frames, 128)."""
        return self.encoder(self.encoder_embed(mel))

    def audio(self, mel: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of log-mels (B, frames, 128)."""
        return self.audio_transform(self.audio_projection(self.frames(mel).mean(dim=1)))

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of token ids (B, length) and their mask."""
        pooled = self.text_encoder(input_ids, attention_mask=attention_mask).pooler_output
        return self.text_transform(self.text_projection(pooled))


def _roberta(sizes: Mapping[str, Any]) -> RobertaConfig:
    return RobertaConfig(**sizes, layer_norm_eps=1e-5)


def _heads(width: int, dim: int) -> tuple[nn.Module, nn.Module]:
    """Return a tower's projection and transform; the transform is part of the embedding, unlike LAION's."""
    projection = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
    # the identity is the reference's dropout
    layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Identity(), nn.Linear(dim, dim))
    return projection, nn.Sequential(OrderedDict(sequential=layers))
