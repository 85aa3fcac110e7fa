"""Contrastive losses over audio and captions, where several captions may be true of a clip.

Both losses are sums over this worker's own clips and captions, against the clips and captions of all
workers. Summed over workers, losses and gradients equal those of one worker with the whole batch.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Shared:
    """Rows of all workers, (N, …) each, in order of rank; ``own``: this worker's."""

    tensors: tuple[Tensor, ...]
    own: slice


def gather(*tensors: Tensor) -> Shared:
    """Return all workers' rows of the tensors, (n, …) each on this worker. Gradients flow back to all.

    n may differ between workers. With one worker nothing is copied.
    """
    n = len(tensors[0])
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return Shared(tensors, slice(0, n))
    counts = [
        torch.zeros(1, dtype=torch.int64, device=tensors[0].device) for _ in range(dist.get_world_size())
    ]
    dist.all_gather(counts, torch.full_like(counts[0], n))
    sizes = [int(count) for count in counts]
    shared = tuple(_Gather.apply(tensor, sizes) for tensor in tensors)
    start = sum(sizes[: dist.get_rank()])
    return Shared(shared, slice(start, start + n))


class _Gather(torch.autograd.Function):
    """All workers' rows; backward returns to each worker the sum of all workers' gradients of its rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int]) -> Tensor:
        """Gather rows of all workers, sizes[rank] of each."""
        start = sum(sizes[: dist.get_rank()])
        ctx.own = slice(start, start + len(tensor))
        padded = torch.cat([tensor, tensor.new_zeros(max(sizes) - len(tensor), *tensor.shape[1:])])
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Sum the workers' gradients."""
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.own], None


def info_nce(
    audio: Tensor,
    text: Tensor,
    scale: Tensor,
    truth: Tensor,
    known: Tensor,
    own: slice,
    smoothing: float = 0.0,
) -> Tensor:
    """Return CLIP's symmetric loss (Radford et al. 2021), summed over own clips and captions, halved.

    audio, text: (N, D) normalised, of all workers; scale: multiplies their cosine. truth: (N, N) weights of
    caption j for clip i, normalised to the softmax's targets; known: (N, N) bool, the pairs included.
    smoothing spreads that share of a target over all included pairs.
    """
    logits = scale * audio[own] @ text.T
    forth = _cross_entropy(logits, truth[own], known[own], smoothing)
    logits = scale * text[own] @ audio.T
    back = _cross_entropy(logits, truth[:, own].T, known[:, own].T, smoothing)
    return (forth + back) / 2


def _cross_entropy(logits: Tensor, truth: Tensor, known: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy of each row's softmax against its normalised truth, summed over rows."""
    truth, known = truth * known, known.to(logits.dtype)
    target = truth / truth.sum(dim=1, keepdim=True).clamp(min=1e-12)
    target = (1 - smoothing) * target + smoothing * known / known.sum(dim=1, keepdim=True).clamp(min=1)
    # a finite minimum, as 0 · -inf would be NaN
    log_p = logits.masked_fill(known == 0, torch.finfo(logits.dtype).min / 2).log_softmax(dim=1)
    return -(target * log_p).sum()


def sigmoid(
    audio: Tensor, text: Tensor, scale: Tensor, bias: Tensor, truth: Tensor, known: Tensor, own: slice
) -> Tensor:
    """Return SigLIP's loss (Zhai et al. 2023), summed over own clips and all captions.

    Arguments as in `info_nce`; bias: added to scale · cosine; truth: (N, N) in [0, 1], the probability that
    caption j is true of clip i.
    """
    logits = scale * audio[own] @ text.T + bias
    truth, known = truth[own], known[own]
    pairs = truth * logsigmoid(logits) + (1 - truth) * logsigmoid(-logits)
    return -(pairs * known).sum()
