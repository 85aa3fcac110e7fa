"""The attention of Zipformer2, see `zipformer`: weights by content and relative position, and their uses.

Ported from egs/librispeech/ASR/zipformer/zipformer.py in github.com/k2-fsa/icefall (Xiaomi Corp.,
Apache-2.0), with its names of the weights. Tensors are (B, T, dim): batch, frames, channels.
"""

import math

import torch
from torch import Tensor, nn


class AttentionWeights(nn.Module):
    """Attention by content and relative position: (B, T, dim) → (B, heads, T, T), rows of sum 1.

    query, position_query: sizes per head; positions: size of the encodings of `relative_positions`. Scores
    are not divided by a square root: the reference initialises the projections smaller instead.
    """

    def __init__(self, dim: int, heads: int, query: int, position_query: int, positions: int):
        super().__init__()
        self.heads = heads
        self.widths = [heads * query, heads * query, heads * position_query]
        self.in_proj = nn.Linear(dim, sum(self.widths))
        self.linear_pos = nn.Linear(positions, self.widths[-1], bias=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        query, key, place = (heads_of(part, self.heads) for part in self.in_proj(x).split(self.widths, -1))
        offsets = heads_of(self.linear_pos(positions)[None], self.heads)
        scores = query @ key.mT
        scores += by_frame(place @ offsets.mT)
        return scores.softmax(dim=-1)


class SelfAttention(nn.Module):
    """Values averaged by given attention weights."""

    def __init__(self, dim: int, heads: int, value: int):
        super().__init__()
        self.heads = heads
        self.in_proj, self.out_proj = nn.Linear(dim, heads * value), nn.Linear(heads * value, dim)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        values = weights @ heads_of(self.in_proj(x), self.heads)
        return self.out_proj(values.transpose(1, 2).flatten(2))


class GatedAttention(nn.Module):
    """Gated values averaged by the weights (B, T, T) of one head, and gated again."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(dim, 3 * hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        gate, values, output_gate = self.in_proj(x).chunk(3, dim=-1)
        return self.out_proj(weights @ (values * gate.tanh()) * output_gate)


def relative_positions(frames: int, width: int, device: torch.device) -> Tensor:
    """Return the encodings (2 · frames − 1, width) of the offsets 1 − frames … frames − 1, float32.

    Large offsets are compressed logarithmically, so that only near ones are told apart exactly.
    """
    offsets = torch.arange(1 - frames, frames, device=device, dtype=torch.float32)[:, None]
    reach = math.sqrt(width)
    compressed = reach * offsets.sign() * ((offsets.abs() + reach).log() - math.log(reach))
    angles = (compressed * (2 * math.pi / width)).atan() * torch.arange(1, width // 2 + 1, device=device)
    encodings = torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)
    encodings[:, -1] = 1.0  # a constant, as a bias
    return encodings


def by_frame(scores: Tensor) -> Tensor:
    """Return scores (B, heads, T, 2 · T − 1) by offset as scores (B, heads, T, T) by frame, as a view."""
    batch, heads, frames, offsets = scores.shape
    strides = (heads * frames * offsets, frames * offsets, offsets - 1, 1)
    return scores.contiguous().as_strided((batch, heads, frames, frames), strides, frames - 1)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """Return (B, T, heads · width) as (B, heads, T, width)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
