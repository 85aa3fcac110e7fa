"""Encode clips of any length to embeddings under amplification, or to logits and vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from zsfuse_ray.method.amplify import Distinct, distinct_inputs, same_as, windows
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.batching import Halved, run_batched
from zsfuse_ray.models.specialist import Specialist

# A clip longer than the model's window is encoded in consecutive windows, or cropped to one.
Long = Literal["windows", "crop"]


@dataclass(frozen=True)
class _Piece:
    """A part of a clip that is encoded at once: `length` samples from `offset`, a `share` of the clip."""

    clip: int
    offset: int
    length: int
    share: float


def embed_clips(
    model: AudioLanguageModel,
    clips: Sequence[Tensor],
    repeats: Sequence[int],
    *,
    known: Sequence[int] = (),
    long: Long = "windows",
    seeds: Sequence[int] | None = None,
    batch_s: float,
    halved: Halved | None = None,
) -> tuple[Tensor, int]:
    """Return the embeddings (n, len(repeats), dim), normalised, on the CPU, and the number of encoded inputs.

    If a gives the same inputs for a clip as one of the known repeats, it is skipped and its row is NaN.

    clips: 1-D float tensors at the model's rate. repeats: the amplifications a. A clip longer than the
    model's window is cut into windows whose embeddings are averaged, weighted by length; with "crop" it is
    cropped to one window, at its head or, with seeds (one per clip), at a position drawn by the seed.
    Amplification is applied to each window. batch_s: seconds of audio per batch, including padding.
    halved: counts the batches that did not fit into the GPU's memory.
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
    if known:
        skipped = _equal_inputs(pieces, repeats, known, model, seeds, len(clips))
        needed = np.unique(distinct.index[~skipped[[piece.clip for piece in pieces]]])
        if not len(needed):
            return torch.full((len(clips), len(repeats), model.dim), torch.nan), 0
        place = np.zeros(len(distinct.inputs), np.int64)  # skipped entries may point to any row
        place[needed] = np.arange(len(needed))
        distinct = Distinct(tuple(distinct.inputs[i] for i in needed), place[distinct.index])

    def encode(inputs: list[tuple[int, int, int]]) -> Tensor:
        return model.embed_audio(
            [periodic(_samples(clips, pieces[piece]), offset, filled) for piece, offset, filled in inputs]
        )

    rows = run_batched(
        encode,
        distinct.inputs,
        [model.window or filled for _, _, filled in distinct.inputs],
        int(batch_s * model.sample_rate),
        model.same_length,
        halved,
    ).cpu()
    embeddings = normalize(_average(rows[torch.from_numpy(distinct.index)], pieces, len(clips)), dim=-1)
    if known:
        embeddings[torch.from_numpy(skipped)] = torch.nan
    return embeddings, len(distinct.inputs)


def classify_clips(
    model: Specialist,
    clips: Sequence[Tensor],
    *,
    long: Long = "windows",
    batch_s: float,
    halved: Halved | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the logits (n, labels) and the vectors (n, vector_dim) on the CPU, float32.

    Those of a long clip's windows are averaged, weighted by length. vectors is None if the model has none.
    """
    sizes = [len(model.labels), model.vector_dim or 0]

    def encode(batch: list[_Piece]) -> Tensor:
        logits, vectors = model.classify([_samples(clips, piece) for piece in batch])
        return logits if vectors is None else torch.cat([logits, vectors], dim=1)

    outputs = torch.empty(0, sum(sizes))
    if clips:
        pieces = _pieces(clips, model.window, long, None)
        rows = run_batched(
            encode,
            pieces,
            [model.window or piece.length for piece in pieces],
            int(batch_s * model.sample_rate),
            model.same_length,
            halved,
        ).cpu()
        outputs = _average(rows, pieces, len(clips))
    logits, vectors = outputs.split(sizes, dim=1)
    return logits.contiguous(), None if model.vector_dim is None else vectors.contiguous()


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


def _equal_inputs(
    pieces: Sequence[_Piece],
    repeats: Sequence[int],
    known: Sequence[int],
    model: AudioLanguageModel,
    seeds: Sequence[int] | None,
    n_clips: int,
) -> NDArray[np.bool_]:
    """Return for which (clip, a) the inputs equal those of a known a, (n, len(repeats))."""
    lengths: list[list[int]] = [[] for _ in range(n_clips)]
    for piece in pieces:
        lengths[piece.clip].append(piece.length)
    is_known = np.zeros((n_clips, len(repeats)), bool)
    for clip, of_windows in enumerate(lengths):
        seed = seeds[clip] if seeds else None
        for column, a in enumerate(repeats):
            same = same_as(of_windows, a, known, model.window, model.fill, seed)
            is_known[clip, column] = same is not None
    return is_known


def window_lengths(samples: int, window: int | None, long: Long) -> list[int]:
    """Return the lengths of the windows that a clip is encoded in."""
    if long == "crop" and window is not None:
        return [min(samples, window)]
    return [length for _, length in windows(samples, window)]


def _samples(clips: Sequence[Tensor], piece: _Piece) -> Tensor:
    return clips[piece.clip][piece.offset : piece.offset + piece.length]


def periodic(clip: Tensor, offset: int, filled: int) -> Tensor:
    """Return `filled` samples of the clip's periodic extension, from `offset`."""
    return clip[(torch.arange(filled, device=clip.device) + offset) % len(clip)]


def _average(rows: Tensor, pieces: Sequence[_Piece], n_clips: int) -> Tensor:
    """Return one row per clip: the mean of its pieces' rows, weighted by their share."""
    shares = torch.tensor([piece.share for piece in pieces]).view(-1, *[1] * (rows.ndim - 1))
    owners = torch.tensor([piece.clip for piece in pieces])
    return rows.new_zeros(n_clips, *rows.shape[1:]).index_add_(0, owners, rows * shares)
