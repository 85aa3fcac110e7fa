"""How much a few corrected segments improve the labels of the others: ``python -m dev.few_labels TABLE``.

TABLE is the output of ``zsfuse embed --vad none`` on a manifest with emotion, speaker and corpus. For each
corpus, N segments are drawn ten times and a head is fitted on them, as ``zsfuse train --from-table`` does; the
UA, accuracy and NLL of the specialist alone are compared on the segments that were not drawn, before and after.
"same": any segments are drawn, as in an archive whose speakers recur; "others": they are drawn from half of the
speakers and measured on the other half; "80 %": the commonest label is made four fifths of the archive.
"""

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.archive.table import read_table
from zsfuse_ray.method.few_labels import Scaling, fit_head
from zsfuse_ray.method.metrics import nll, ua, wa
from zsfuse_ray.method.readout import Readout
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.models.catalog import parse_spec
from zsfuse_ray.models.readouts import classifier_of
from zsfuse_ray.training.from_table import labelled_rows

NUMBERS, DRAWS = (20, 50, 100, 200), 10
SPLITS = ("same", "others", "80 %")


def compare(
    logits: NDArray, vectors: NDArray, targets: NDArray, speakers: NDArray, number: int, split: str
) -> NDArray[np.float64]:
    """Mean of UA, WA and NLL, before and after, (2, 3); NaN where too few segments are left to measure on."""
    n_labels = logits.shape[1]
    labels, found = tuple(map(str, range(n_labels))), []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        some, drawn, left = _drawn(targets, speakers, number, split, rng)
        if len(left) < number / 2 or len(set(targets[drawn])) < 2:
            return np.full((2, 3), np.nan)
        scaling, groups = Scaling.of(vectors[some]), speakers[drawn]
        every = np.ones(n_labels, bool)
        head = fit_head(labels, every, logits[drawn], vectors[drawn], targets[drawn], groups, scaling).head
        both = (logits[left], head.logits(logits[left], vectors[left]))
        found.append([_figures(softmax(one), targets[left]) for one in both])
    return np.mean(found, axis=0)


def _drawn(
    targets: NDArray, speakers: NDArray, number: int, split: str, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray]:
    """The segments of the archive, those that are corrected, and those to measure on."""
    some = np.arange(len(targets))
    if split == "80 %":
        most = np.bincount(targets).argmax()
        often, rare = np.flatnonzero(targets == most), np.flatnonzero(targets != most)
        some = np.concatenate([often, rng.choice(rare, min(len(rare), len(often) // 4), replace=False)])
    pool = some
    if split == "others":
        names = rng.permutation(np.unique(speakers))
        pool = some[np.isin(speakers, names[: len(names) // 2])]
    drawn = rng.choice(pool, min(number, len(pool)), replace=False)
    return some, drawn, np.setdiff1d(some, pool if split == "others" else drawn)


def _figures(posteriors: NDArray, targets: NDArray) -> tuple[float, float, float]:
    given, n_labels = posteriors.argmax(axis=1), posteriors.shape[1]
    return ua(targets, given, n_labels), wa(targets, given, n_labels), nll(posteriors, targets)


def lines(
    logits: NDArray, vectors: NDArray, targets: NDArray, speakers: NDArray, corpus: str
) -> Iterator[str]:
    """Rows of the Markdown table for a corpus."""
    for split in SPLITS:
        for number in NUMBERS:
            before, after = compare(logits, vectors, targets, speakers, number, split)
            if np.isfinite(after).all():
                cells = [f"{100 * b:.1f} → {100 * a:.1f}" for b, a in zip(before[:2], after[:2], strict=True)]
                yield f"| {corpus} | {split} | {number} | {' | '.join(cells)} | {before[2]:.2f} → {after[2]:.2f} |"


def main(uri: str) -> None:
    """Print the table of all corpora of an embedding table, normalised by speaker."""
    table = read_table(uri, vectors=True)
    rows = labelled_rows(table, None)
    facts = table.models["specialist"]
    vectors = rows.vectors("specialist", "speaker")
    readout = Readout(classifier_of(parse_spec(facts["model"], "specialist")), None)
    corpora = np.array(table.segments["corpus"].to_pylist())[rows.rows]
    emotions = np.array(rows.emotions)
    print("| corpus | drawn from | corrections | UA % | WA % | NLL |\n|---|---|---|---|---|---|")
    for corpus in np.unique(corpora):
        own = corpora == corpus
        labels = [label for label in facts["labels"] if label in set(emotions[own])]
        columns = [facts["labels"].index(label) for label in labels]
        targets = np.array([labels.index(emotion) for emotion in emotions[own]])
        logits = readout.logits(vectors[own])[:, columns]
        for line in lines(logits, vectors[own], targets, rows.groups[own], corpus):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
