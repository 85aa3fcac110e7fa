"""Search of one block: hundreds of millions of configurations → the summary that later choices need.

For each set of training folds (all but one, or all), number of prompts and weight: the best subset and its
score on each fold. These contain the best configuration and the simplest within its standard error.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.experiments.tune.subsets import refine
from zsfuse_ray.method.search import EXHAUSTIVE, Block, fold_scores, sizes, subsets

SAME = 1e-9  # scores this close are ties


@dataclass(frozen=True, eq=False)
class Summary:
    """Result of a block. Sets of training folds: k leaves out fold k; the last, F, leaves out none.

    score and subset: (F + 1, T, W), the best subset of 1 … T prompts at each weight, by the mean over the
    set's folds; folds: (F + 1, T, W, F), its score on each fold. tried: number of configurations.
    """

    score: NDArray[np.float64]
    subset: NDArray[np.uint64]
    folds: NDArray[np.float32]
    tried: int


def training_sets(n_folds: int) -> NDArray[np.float64]:
    """Return the weight of each fold in the mean of each set, (F + 1, F)."""
    return np.vstack([(1 - np.eye(n_folds)) / (n_folds - 1), np.full((1, n_folds), 1 / n_folds)])


def summarise(block: Block) -> tuple[Summary, pa.Table]:
    """Search a block; returns its summary, and a table of all tried subsets with their best score and weight.

    Up to EXHAUSTIVE prompts all subsets are tried. Beyond that, greedy forward selection (the best prompt,
    then the one that adds most, and so on), then Optuna's proposals from there, see `refine`; separately
    for each set of training folds, so that the left-out fold does not affect the candidates.
    """
    n_prompts, n_folds = len(block.scores), int(block.folds.max()) + 1
    sets = training_sets(n_folds)
    size = (len(sets), n_prompts, len(block.weights))
    best = Summary(
        np.full(size, -np.inf), np.zeros(size, np.uint64), np.zeros((*size, n_folds), np.float32), 0
    )
    tried, pages = 0, []
    if n_prompts <= EXHAUSTIVE:
        masks = subsets(n_prompts)
        ends = np.searchsorted(sizes(masks), np.arange(1, n_prompts + 1), side="right")
        for prompts, part in enumerate(np.split(masks, ends[:-1])):
            for some, scores in fold_scores(block, part):
                _keep(best, range(len(sets)), prompts, some, scores, sets)
                pages.append(_page(some, scores, block.weights))
                tried += scores.shape[0] * scores.shape[2]
    else:
        for s in range(len(sets)):
            known: dict[int, float] = {}

            def score(masks: NDArray[np.uint64], s: int = s, known: dict[int, float] = known) -> NDArray:
                """Scores of subsets at their best weights; keeps the best, counts all."""
                nonlocal tried
                for size in np.unique(sizes(masks)):
                    for some, scores in fold_scores(block, masks[sizes(masks) == size]):
                        _keep(best, (s,), int(size) - 1, some, scores, sets)
                        tried += scores.shape[0] * scores.shape[2]
                        if s == n_folds:
                            pages.append(_page(some, scores, block.weights))
                        top = np.tensordot(scores, sets[s], axes=(1, 0)).max(axis=1)
                        known.update(zip(some.tolist(), top.tolist(), strict=True))
                return np.array([known[mask] for mask in masks.tolist()])

            current = np.uint64(0)
            for prompts in range(n_prompts):
                bits = np.uint64(1) << np.arange(n_prompts, dtype=np.uint64)
                score(bits[(bits & current) == 0] | current)
                current = best.subset[s, prompts, best.score[s, prompts].argmax()]
            refine(list(known.items()), n_prompts, score, seed=s)
    return Summary(best.score, best.subset, best.folds, tried), pa.concat_tables(pages)


def to_table(summary: Summary, weights: NDArray[np.float64]) -> pa.Table:
    """The summary as rows, one per set (left_out: fold number from 1; 0: none), prompts and weight."""
    n_sets, n_prompts, n_weights = summary.score.shape
    left_out, prompts, weight = np.meshgrid(
        [*range(1, n_sets), 0], np.arange(1, n_prompts + 1), weights, indexing="ij"
    )
    n_folds = summary.folds.shape[-1]
    return pa.table(
        {
            "left_out": left_out.ravel().astype(np.int32),
            "prompts": prompts.ravel().astype(np.int32),
            "weight": weight.ravel(),
            "score": summary.score.ravel(),
            "subset": summary.subset.ravel(),
            "fold_scores": pa.FixedSizeListArray.from_arrays(pa.array(summary.folds.ravel()), n_folds),
        },
        metadata={"tried": str(summary.tried), "shape": f"{n_sets},{n_prompts},{n_weights}"},
    )


def from_table(table: pa.Table) -> Summary:
    """Inverse of `to_table`."""
    metadata = table.schema.metadata
    shape = tuple(map(int, metadata[b"shape"].split(b",")))
    folds = cast(pa.FixedSizeListArray, table["fold_scores"].combine_chunks()).flatten().to_numpy()
    return Summary(
        table["score"].to_numpy().reshape(shape),
        table["subset"].to_numpy().reshape(shape),
        folds.reshape(*shape, -1),
        int(metadata[b"tried"]),
    )


def _keep(
    best: Summary, of: range | tuple[int, ...], prompts: int, masks: NDArray, scores: NDArray, sets: NDArray
) -> None:
    """Update the best subsets with these masks; the first of ties stays."""
    for s in of:
        mean = np.tensordot(scores, sets[s], axes=(1, 0))
        k = mean.argmax(axis=0)
        w = np.arange(mean.shape[1])
        better = mean[k, w] > best.score[s, prompts] + SAME
        k, w = k[better], w[better]
        best.score[s, prompts, w] = mean[k, w]
        best.subset[s, prompts, w] = masks[k]
        best.folds[s, prompts, w] = scores[k, :, w]


def _page(masks: NDArray[np.uint64], scores: NDArray, weights: NDArray) -> pa.Table:
    mean = scores.mean(axis=1)
    best = mean.argmax(axis=1)
    return pa.table(
        {
            "subset": masks,
            "prompts": sizes(masks).astype(np.int32),
            "score": mean.max(axis=1).astype(np.float32),
            "weight": weights[best],
            "alm_score": mean[:, -1].astype(np.float32),
        }
    )
