"""Search over all prompt subsets and fusion weights, computed from per-prompt scores.

Prompt t gives clip i and label c the score S[t, i, c]. The scores of a prompt subset are a masked mean of S
(for `embedding`, divided by the norm of the mean text embedding, computed from the Gram matrix), so nothing
is encoded again. As a function of the fusion weight, linear fusion is linear for every label, log-linear
fusion linear in the logarithm; the weights at which a label wins therefore form an interval between
crossings, and correct clips are counted for all weights at once from the ends of these intervals. This costs
clips × labels per subset instead of weights × clips × labels. Computed weight by weight instead: NLL,
log-linear fusion with labels the specialist does not cover, and rules linear in neither sense
(`FusionRule.straight`).

The temperature is one value per block, as fitting it per subset would cost more than the search: searched on
a grid like any other choice, or fitted once with all prompts on all clips. In the latter case, the clips of a
test fold influence this one number of their block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zsfuse_ray.method.fusion import Rule, find_rule, pool_inside
from zsfuse_ray.method.zeroshot import Ensemble

Objective = Literal["ua", "wa", "macro_f1", "nll"]

STEPS = 100  # weights 0, 0.01, …, 1
EXHAUSTIVE = 17  # up to this many prompts all subsets are evaluated: 131,071
_CHUNK = 200_000  # scores per chunk: fits a core's cache whatever the number of clips
_NO_LOG = -1e4  # logarithm of probability 0: finite, but too low for any other term to compensate


@dataclass(frozen=True, eq=False)
class Block:
    """One (a, b, ensemble, fusion, temperature) and the data its subsets and weights are evaluated on.

    scores: (T, n, C), scale times cosine of each prompt, see `prompt_scores`; gram: (C, T, T), see
    `prompt_gram`, for the norms of mean text embeddings. specialist: (n, C) posteriors on the label set, None
    for the ALM alone, whose only weight is 1. inside: (C,), labels the specialist covers. targets and folds:
    (n,), folds from 0.
    """

    scores: NDArray[np.float32]
    gram: NDArray[np.float64]
    specialist: NDArray[np.float64] | None
    inside: NDArray[np.bool_]
    targets: NDArray[np.int64]
    folds: NDArray[np.int64]
    ensemble: Ensemble = "embedding"
    fusion: Rule = "linear"
    temperature: float = 1.0
    objective: Objective = "ua"

    @property
    def weights(self) -> NDArray[np.float64]:
        """Fusion weights evaluated, (W,)."""
        return np.linspace(0, 1, STEPS + 1) if self.specialist is not None else np.ones(1)


def prompt_scores(audio: NDArray[np.float32], text: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return each prompt's scores (T, n, C), scale times cosine, of audio (n, D) and text (T, C, D)."""
    return np.matmul(np.float32(scale) * audio[None], text.transpose(0, 2, 1))


def prompt_gram(text: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inner products of the prompts' embeddings for each label, (C, T, T). text: (T, C, D)."""
    by_label = text.astype(np.float64).transpose(1, 0, 2)
    return by_label @ by_label.transpose(0, 2, 1)


def subsets(n_prompts: int) -> NDArray[np.uint64]:
    """Return all non-empty subsets as bit masks, those with fewest prompts first."""
    numbers = np.arange(1, 2**n_prompts, dtype=np.uint64)
    return numbers[np.argsort(sizes(numbers), kind="stable")]


def sizes(masks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of prompts in each subset."""
    return members(masks, 64).sum(axis=1)


def members(masks: NDArray[np.uint64], n_prompts: int) -> NDArray[np.bool_]:
    """Return which prompts are in each subset, (subsets, T)."""
    return (masks[:, None] >> np.arange(n_prompts, dtype=np.uint64) & np.uint64(1)).astype(bool)


def fold_scores(
    block: Block, masks: NDArray[np.uint64], dtype: DTypeLike = np.float32
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float64]]]:
    """Yield (subsets, scores (subsets, F, W)) in chunks of subsets: the objective on each fold.

    Higher is better: `nll` is negated. Ties go to the first label, as in `argmax`. Memory is a few times that
    of the prompts' scores plus some tens of MB, whatever the number of subsets.
    """
    parts = _parts(block, np.dtype(dtype))
    step = max(1, _CHUNK // max(part.scores[0].size for part in parts))
    n_prompts, n_labels = len(block.scores), len(block.inside)
    norms = block.gram.transpose(1, 2, 0).reshape(-1, n_labels)
    clips = np.zeros((int(block.folds.max()) + 1, n_labels))
    np.add.at(clips, (block.folds, block.targets), 1)
    for start in range(0, len(masks), step):
        some = masks[start : start + step]
        chosen = members(some, n_prompts).astype(np.float64)
        divisor = np.repeat(chosen.sum(axis=1, keepdims=True), n_labels, axis=1)
        if block.ensemble == "embedding":  # the norm of the sum of the subset's embeddings
            pairs = (chosen[:, :, None] * chosen[:, None]).reshape(len(some), -1)
            divisor = np.sqrt(np.maximum(pairs @ norms, 1e-24))
        chosen, divisor = chosen.astype(dtype), divisor.astype(dtype)
        by_label = [(part.label, _hits(block, part, chosen, divisor, len(clips))) for part in parts]
        scores = _f1(by_label, clips) if block.objective == "macro_f1" else _mean(block, by_label, clips)
        yield some, scores if block.specialist is not None else scores[:, :, -1:]


@dataclass(frozen=True, eq=False)
class _Part:
    """Clips to count for one predicted label (those with this target; for macro-F1 all), and count cells.

    scores: (T, C, m), posteriors if these are averaged; specialist: (C, m) posteriors. cells: (m,), the
    clips' folds; for macro-F1 twice the fold, plus one if the label is the clip's target.
    """

    label: int
    scores: NDArray
    specialist: NDArray
    cells: NDArray[np.int64]


def _parts(block: Block, dtype: np.dtype) -> list[_Part]:
    scores, specialist = block.scores.astype(dtype, copy=False), block.specialist
    n_labels = scores.shape[2]
    if specialist is None:  # placeholder: only weight 1 is kept, where it has no effect
        specialist = np.full(scores.shape[1:], 1 / n_labels)
    if block.ensemble == "probability":
        scores = _softmax(scores / dtype.type(block.temperature), axis=2)
    parts = []
    for label in range(n_labels):
        own = block.targets == label
        if block.objective == "macro_f1":
            rows, cells = np.arange(len(own)), 2 * block.folds + own
        else:
            rows = np.flatnonzero(own)
            cells = block.folds[rows]
        if len(rows):
            here = np.ascontiguousarray(scores[:, rows].transpose(0, 2, 1))
            parts.append(_Part(label, here, specialist[rows].T.astype(dtype), cells))
    return parts


def _hits(block: Block, part: _Part, chosen: NDArray, divisor: NDArray, n_folds: int) -> NDArray[np.float64]:
    """Number of clips in each cell predicted as the part's label at each weight, (K, cells, steps + 1).

    For `nll`, the sum of the log posteriors of this label instead.
    """
    averaged = chosen @ part.scores.reshape(len(part.scores), -1)
    averaged = averaged.reshape(len(chosen), *part.scores.shape[1:])
    averaged /= divisor[:, :, None]
    n_cells = 2 * n_folds if block.objective == "macro_f1" else n_folds
    straight = find_rule(block.fusion).straight
    if block.ensemble == "probability":
        p = averaged
    else:
        averaged /= averaged.dtype.type(block.temperature)
        p = None if straight == "logarithm" else _softmax(averaged, axis=1)
    all_covered = bool(block.inside.all())
    if block.objective != "nll" and (straight == "posterior" or (straight == "logarithm" and all_covered)):
        if straight == "posterior":
            assert p is not None
            begin, end = _interval(part.specialist if all_covered else _at_0(block, part, p), p, part.label)
        else:  # a common factor per clip does not change the order: scores can stand in for log posteriors
            begin, end = _interval(_log(part.specialist), averaged if p is None else _log(p), part.label)
        base = (np.arange(len(chosen))[:, None] * n_cells + part.cells) * (STEPS + 2)
        n = len(chosen) * n_cells * (STEPS + 2)
        changes = np.bincount((base + begin).ravel(), minlength=n)
        changes -= np.bincount((base + end).ravel(), minlength=n)
        return changes.reshape(len(chosen), n_cells, -1).cumsum(axis=2)[:, :, :-1].astype(np.float64)
    p = _softmax(averaged, axis=1) if p is None else p
    counts = np.zeros((len(chosen), n_cells, STEPS + 1))
    in_cell = np.eye(n_cells, dtype=p.dtype)[part.cells]
    for w in range(STEPS + 1) if block.specialist is not None else (STEPS,):
        fused = _fused(block, part, p, w / STEPS)
        if block.objective == "nll":
            counts[:, :, w] = np.log(np.maximum(fused[:, part.label], 1e-12)) @ in_cell
        else:
            counts[:, :, w] = (fused.argmax(axis=1) == part.label).astype(p.dtype) @ in_cell
    return counts


def _interval(at_0: NDArray, at_1: NDArray, label: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (begin, end), each (K, m): the label wins at weights begin ≤ w · steps < end.

    Each label's value is linear from at_0, (C, m) or (K, C, m), at weight 0 to at_1, (K, C, m), at weight 1.
    """
    kind = at_1.dtype.type
    tie = kind(
        STEPS * np.finfo(kind).eps
    )  # precision of a crossing; one this close to a weight is a tie there
    tiny, beyond = kind(1e-30), kind(STEPS + 0.5)
    low = np.full(at_1[:, 0].shape, -0.5, kind)
    high = np.full(low.shape, beyond)
    at_0 = np.moveaxis(at_0, -2, 0)
    for other in range(at_1.shape[1]):
        if other == label:
            continue
        sign = kind(1 if label < other else -1)  # ties go to the first label
        lead = at_0[label] - at_0[other] + sign * tiny
        loss = at_1[:, other] - at_1[:, label]
        loss += lead
        with np.errstate(divide="ignore", over="ignore"):
            crossing = (STEPS * lead) / loss
        falls = loss >= 0
        np.minimum(high, np.where(falls, crossing + sign * tie, beyond), out=high)
        np.maximum(low, np.where(falls, kind(-0.5), crossing - sign * tie), out=low)
    end = np.floor(high).clip(-1, STEPS).astype(np.int64) + 1
    begin = np.ceil(low).clip(0, STEPS + 1).astype(np.int64)
    return np.minimum(begin, end), end


def _at_0(block: Block, part: _Part, p: NDArray) -> NDArray:
    """Linear fusion (K, C, m) at weight 0 if the specialist does not cover every label, see `fuse`."""
    share = p[:, block.inside].sum(axis=1, keepdims=True)
    return np.where(block.inside[:, None], part.specialist * share, p)


def _fused(block: Block, part: _Part, p: NDArray, weight: float) -> NDArray:
    """The fused posterior (K, C, m) at one weight, as `fuse` defines it."""
    q, p = np.moveaxis(part.specialist, 0, -1), np.moveaxis(p, 1, -1)
    return np.moveaxis(pool_inside(q, p, weight, find_rule(block.fusion), block.inside), -1, 1)


def _mean(
    block: Block, by_label: list[tuple[int, NDArray[np.float64]]], clips: NDArray[np.float64]
) -> NDArray[np.float64]:
    """UA: equal weight per label in a fold; WA and NLL: equal weight per clip. clips: (F, C) clip counts."""
    if block.objective == "ua":
        of_clip = 1 / np.maximum(clips, 1) / np.maximum((clips > 0).sum(axis=1, keepdims=True), 1)
    else:
        of_clip = np.repeat(1 / np.maximum(clips.sum(axis=1, keepdims=True), 1), clips.shape[1], axis=1)
    return sum((of_clip[:, label, None] * given for label, given in by_label), start=np.zeros(1))


def _f1(by_label: list[tuple[int, NDArray[np.float64]]], clips: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro-F1 over the labels present in a fold's targets or predictions, as in `metrics.macro_f1`."""
    total, labels = np.zeros(1), np.zeros(1)
    for label, given in by_label:
        right = given[:, 1::2]
        both = clips[:, label, None] + right + given[:, ::2]
        total = total + 2 * right / np.maximum(both, 1)
        labels = labels + (both > 0)
    return total / labels


def _softmax(x: NDArray, axis: int) -> NDArray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    e /= e.sum(axis=axis, keepdims=True)
    return e


def _log(p: NDArray) -> NDArray:
    return np.log(p, out=np.full_like(p, _NO_LOG), where=p > 0)
