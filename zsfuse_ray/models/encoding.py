"""Clips of any length → embeddings under amplification, or logits, each distinct input computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from zsfuse_ray.method.amplify import Fill, distinct_inputs, windows
from zsfuse_ray.models.batching import run_batched

# How a clip longer than the model's window is heard: by windows that cover it, or in one crop.
Long = Literal["windows", "crop"]


class Alm(Protocol):
    """What an audio-language model offers to this module; a model with a window pads every input to it."""

    sample_rate: int
    window: int | None
    fill: Fill
    dim: int
    same_length: bool

    def embed_audio(self, clips: list[Tensor]) -> Tensor: ...


class Specialist(Protocol):
    """What a specialist offers; a model with a window pads every input to it."""

    kind: Literal["specialist"]
    fill: Literal["none"]
    labels: tuple[str, ...]
    revision: str | None
    licence: str | None
    sample_rate: int
    window: int | None
    dim: int
    same_length: bool

    def logits(self, clips: list[Tensor]) -> Tensor: ...


@dataclass(frozen=True)
class _Piece:
    """What a model hears at once: `length` samples of a clip from `offset`, a share of all it hears."""

    clip: int
    offset: int
    length: int
    share: float


def embed_clips(
    model: Alm,
    clips: Sequence[Tensor],
    repeats: Sequence[int],
    *,
    long: Long = "windows",
    seeds: Sequence[int] | None = None,
    batch_s: float,
) -> tuple[Tensor, int]:
    """Return the embeddings (n, len(repeats), dim), normalised, on the CPU, and how many inputs they took.

    clips: 1-D float tensors at the model's rate. repeats: the amplifications a. A clip longer than the
    model's window is cut into windows whose embeddings are averaged by length; with "crop" it is cut to one
    window, from its head or, with seeds (one a clip), from a place the seed names. Amplification acts on
    each window. batch_s: seconds of audio in a batch, padding included.
    """
    if not clips:
        return torch.empty(0, len(repeats), model.dim), 0
    pieces = _pieces(clips, model.window, long, seeds)
    distinct = distinct_inputs(
        [piece.length for piece in pieces],
        repeats,
        model.window,
        model.fill,
        seeds and [seeds[piece.clip] for piece in pieces],
    )

    def encode(inputs: list[tuple[int, int, int]]) -> Tensor:
        return model.embed_audio(
            [periodic(_heard(clips, pieces[piece]), offset, filled) for piece, offset, filled in inputs]
        )

    rows = run_batched(
        encode,
        distinct.inputs,
        [model.window or filled for _, _, filled in distinct.inputs],
        int(batch_s * model.sample_rate),
        model.same_length,
    ).cpu()
    embeddings = _average(rows[torch.from_numpy(distinct.index)], pieces, len(clips))
    return normalize(embeddings, dim=-1), len(distinct.inputs)


def classify_clips(
    model: Specialist, clips: Sequence[Tensor], *, long: Long = "windows", batch_s: float
) -> Tensor:
    """Return the logits (n, labels) on the CPU, those of a long clip's windows averaged by length."""
    if not clips:
        return torch.empty(0, model.dim)
    pieces = _pieces(clips, model.window, long, None)
    rows = run_batched(
        lambda batch: model.logits([_heard(clips, piece) for piece in batch]),
        pieces,
        [model.window or piece.length for piece in pieces],
        int(batch_s * model.sample_rate),
        model.same_length,
    ).cpu()
    return _average(rows, pieces, len(clips))


def _pieces(
    clips: Sequence[Tensor], window: int | None, long: Long, seeds: Sequence[int] | None
) -> list[_Piece]:
    pieces: list[_Piece] = []
    for clip, samples in enumerate(map(len, clips)):
        if long == "crop" and window is not None and samples > window:
            start = seeds[clip] % (samples - window + 1) if seeds else 0
            pieces.append(_Piece(clip, start, window, 1.0))
        else:
            pieces += [_Piece(clip, start, n, n / samples) for start, n in windows(samples, window)]
    return pieces


def _heard(clips: Sequence[Tensor], piece: _Piece) -> Tensor:
    return clips[piece.clip][piece.offset : piece.offset + piece.length]


def periodic(clip: Tensor, offset: int, filled: int) -> Tensor:
    """Return `filled` samples of the clip's periodic extension, from `offset`."""
    return clip[(torch.arange(filled, device=clip.device) + offset) % len(clip)]


def _average(rows: Tensor, pieces: Sequence[_Piece], n_clips: int) -> Tensor:
    """Return one row a clip: the mean of its pieces' rows, weighted by their share."""
    shares = torch.tensor([piece.share for piece in pieces]).view(-1, *[1] * (rows.ndim - 1))
    owners = torch.tensor([piece.clip for piece in pieces])
    return rows.new_zeros(n_clips, *rows.shape[1:]).index_add_(0, owners, rows * shares)
