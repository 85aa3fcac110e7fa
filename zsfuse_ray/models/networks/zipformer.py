"""Zipformer2, a speech encoder at several frame rates (Yao et al. 2024, arXiv 2310.11230), for inference.

Ported from egs/librispeech/ASR/zipformer/{zipformer,scaling}.py in github.com/k2-fsa/icefall (Xiaomi Corp.,
Apache-2.0), with its names of the weights. Without what it does only in training (balancers, whitening,
schedules, skipped layers), without streaming, and without masks: all clips of a batch have equal length. The
reference also draws from Python's global `random` in inference, to print statistics; this does not.

Tensors are (B, T, dim): batch, frames, channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, linear, softplus

from zsfuse_ray.models.networks.relative_attention import (
    AttentionWeights,
    GatedAttention,
    SelfAttention,
    relative_positions,
)


@dataclass(frozen=True)
class StackSizes:
    """A stack of layers at 1 / downsampling of the frame rate. kernel: of its convolutions, odd."""

    layers: int
    downsampling: int
    feedforward: int
    kernel: int


@dataclass(frozen=True)
class ZipformerSizes:
    """Sizes of an encoder. query, value, position_query: per head; positions: of a position's encoding."""

    dim: int
    heads: int
    query: int
    value: int
    position_query: int
    positions: int
    stacks: tuple[StackSizes, ...]


class Zipformer(nn.Module):
    """The encoder: frames (B, T, dim) → frames at half the rate (B, ceil(T / 2), dim)."""

    def __init__(self, sizes: ZipformerSizes):
        super().__init__()
        self.encoders = nn.ModuleList(
            [
                Stack(sizes, stack) if stack.downsampling == 1 else SlowerStack(sizes, stack)
                for stack in sizes.stacks
            ]
        )
        self.downsample_output = Downsample(2)

    def forward(self, x: Tensor) -> Tensor:
        for stack in self.encoders:
            x = stack(x)
        return self.downsample_output(x)


class Stack(nn.Module):
    """Layers at one frame rate."""

    def __init__(self, sizes: ZipformerSizes, stack: StackSizes):
        super().__init__()
        self.positions = sizes.positions
        self.layers = nn.ModuleList([Layer(sizes, stack) for _ in range(stack.layers)])

    def forward(self, x: Tensor) -> Tensor:
        positions = relative_positions(x.shape[1], self.positions, x.device)
        for layer in self.layers:
            x = layer(x, positions)
        return x


class SlowerStack(nn.Module):
    """A stack at a lower frame rate, and a bypass around it."""

    def __init__(self, sizes: ZipformerSizes, stack: StackSizes):
        super().__init__()
        self.factor = stack.downsampling
        self.downsample = Downsample(stack.downsampling)
        self.encoder = Stack(sizes, stack)
        self.out_combiner = Bypass(sizes.dim)

    def forward(self, x: Tensor) -> Tensor:
        slower = self.encoder(self.downsample(x))
        return self.out_combiner(x, slower.repeat_interleave(self.factor, dim=1)[:, : x.shape[1]])


class Layer(nn.Module):
    """One layer. Its attention weights are computed once and used by three of its modules."""

    def __init__(self, sizes: ZipformerSizes, stack: StackSizes):
        super().__init__()
        dim = sizes.dim
        self.self_attn_weights = AttentionWeights(
            dim, sizes.heads, sizes.query, sizes.position_query, sizes.positions
        )
        self.self_attn1, self.self_attn2 = (SelfAttention(dim, sizes.heads, sizes.value) for _ in range(2))
        self.feed_forward1 = FeedForward(dim, stack.feedforward * 3 // 4)
        self.feed_forward2 = FeedForward(dim, stack.feedforward)
        self.feed_forward3 = FeedForward(dim, stack.feedforward * 5 // 4)
        self.nonlin_attention = GatedAttention(dim, dim * 3 // 4)
        self.conv_module1, self.conv_module2 = (Convolution(dim, stack.kernel) for _ in range(2))
        self.bypass, self.bypass_mid = Bypass(dim), Bypass(dim)
        self.norm = BiasNorm(dim)
        self.bypass_scale = nn.Parameter(torch.full((dim,), 0.5))  # not used, but in every checkpoint

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        weights = self.self_attn_weights(x, positions)
        y = x + self.feed_forward1(x)
        y = y + self.nonlin_attention(y, weights[:, 0])  # only the first head's
        y = y + self.self_attn1(y, weights)
        y = y + self.conv_module1(y)
        y = y + self.feed_forward2(y)
        y = self.bypass_mid(x, y)
        y = y + self.self_attn2(y, weights)
        y = y + self.conv_module2(y)
        y = y + self.feed_forward3(y)
        return self.bypass(x, self.norm(y))


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(dim, hidden), SwooshLinear(hidden, dim, swoosh_l)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.in_proj(x))


class Convolution(nn.Module):
    """A convolution over time of each channel, after a gate."""

    def __init__(self, dim: int, kernel: int):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(dim, 2 * dim), SwooshLinear(dim, dim, swoosh_r)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, groups=dim, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.depthwise_conv(glu(self.in_proj(x)).mT).mT)


class SwooshLinear(nn.Linear):
    """An activation before a linear layer."""

    def __init__(self, inputs: int, outputs: int, activation: Callable[[Tensor], Tensor]):
        super().__init__(inputs, outputs)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        return linear(self.activation(input), self.weight, self.bias)


class Bypass(nn.Module):
    """The input plus a learned share, per channel, of the change of it."""

    def __init__(self, dim: int):
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return before + (after - before) * self.bypass_scale


class BiasNorm(nn.Module):
    """Normalisation by the root mean square of the distance from a learned bias."""

    def __init__(self, dim: int):
        super().__init__()
        self.log_scale, self.bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * ((x - self.bias).square().mean(dim=-1, keepdim=True).rsqrt() * self.log_scale.exp())


class Downsample(nn.Module):
    """Every `factor` frames averaged by learned weights; the last frame is repeated to a multiple."""

    def __init__(self, factor: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x: Tensor) -> Tensor:
        factor = len(self.bias)
        x = torch.cat([x, x[:, -1:].expand(-1, -x.shape[1] % factor, -1)], dim=1)
        return (x.unflatten(1, (-1, factor)) * self.bias.softmax(dim=0)[:, None]).sum(dim=2)


def swoosh_l(x: Tensor) -> Tensor:
    """Zipformer's activation for layers that are usually off: zero at 0, with a slope of −0.08 below."""
    return softplus(x - 4.0) - 0.08 * x - 0.035


def swoosh_r(x: Tensor) -> Tensor:
    """The same for layers that are usually on."""
    return softplus(x - 1.0) - 0.08 * x - 0.313261687
