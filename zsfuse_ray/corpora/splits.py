"""Speaker-independent splits and folds."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.audio.manifest import is_manifest, read_texts
from zsfuse_ray.corpora.clips import split_name
from zsfuse_ray.errors import InputError, redact

SHIPPED = {"mini": resources.files("zsfuse_ray.corpora") / "mini_split.csv"}


def read_split(path: str, table: pa.Table) -> pa.Table:
    """Set the split of clips by speaker from a csv of corpus, speaker, split (``mini``: the shipped one).

    InputError for a speaker who is missing from the file or has two splits in it.
    """
    if path not in SHIPPED and not is_manifest(path):
        raise InputError(f"{redact(path)}: not a csv of corpus, speaker, split, nor {', '.join(SHIPPED)}")
    rows = read_texts(str(SHIPPED.get(path, path)), ("corpus", "speaker", "split"))
    splits: dict[tuple[str, str], str | None] = {}
    for row in rows:
        who = (row["corpus"], row["speaker"])
        split = split_name(row["split"], redact(path))
        if splits.setdefault(who, split) != split:
            raise InputError(
                f"{redact(path)}: speaker {who[1]} of {who[0]} is in both {splits[who]} and {split}"
            )
    speakers = list(zip(table["corpus"].to_pylist(), table["speaker"].to_pylist(), strict=True))
    if missing := next((who for who in speakers if who not in splits), None):
        corpus, speaker = missing
        who = f"speaker {speaker}" if speaker else "a clip without a speaker"
        raise InputError(f"{redact(path)}: no split for {who} of {corpus}")
    return _with(table, "split", pa.array([splits[who] for who in speakers], pa.string()))


def folds(table: pa.Table, n: int = 5, seed: int = 0) -> pa.Table:
    """Assign every clip a fold, per corpus: the corpus' own folds if it has them, else n folds by speaker.

    The clips of fold k are its test part; the others are for training. Existing folds are kept, whatever
    their number. InputError for a corpus with folds for only some of its clips, with fewer speakers than
    folds, or with clips without a speaker.
    """
    if n < 2:
        raise InputError(f"folds must be at least 2, not {n}")
    folds = np.array(table["fold"].fill_null(0).to_pylist(), dtype=np.int32)
    names = np.array(table["corpus"].to_pylist(), dtype=object)
    for corpus in dict.fromkeys(names):
        rows = np.flatnonzero(names == corpus)
        if (folds[rows] > 0).all():
            continue
        if (folds[rows] > 0).any():
            raise InputError(f"{(folds[rows] == 0).sum()} of {len(rows)} clips of {corpus} have no fold")
        part = table.take(rows)
        speakers, clips = _speakers(part, f"folds of {corpus}")
        if len(speakers) < n:
            raise InputError(f"{corpus} has {len(speakers)} speakers, too few for {n} folds")
        strata = [part[name].to_pylist() for name in ("emotion", "gender")]
        folds[rows] = _balanced([_counts(clips, of, len(speakers)) for of in strata], n, seed)[clips] + 1
    return _with(table, "fold", pa.array(folds, pa.int32()))


def held_out_speakers(table: pa.Table, parts: int = 5, seed: int = 0) -> dict[str | None, tuple[str, ...]]:
    """Return the speakers to hold out for testing, by corpus: about one in `parts`, covering most labels.

    Every label of a corpus keeps clips of speakers that are not held out. No speaker is held out of a corpus
    with a single speaker, with a clip without a speaker (it may be anyone's), or in which some label would
    lose all its clips.
    """
    names = np.array(table["corpus"].to_pylist(), dtype=object)
    chosen = {}
    for corpus in dict.fromkeys(names):
        part = table.take(np.flatnonzero(names == corpus))
        if not part["speaker"].null_count and (held_out := _held_out(part, parts, seed)):
            chosen[corpus] = held_out
    return chosen


def _held_out(table: pa.Table, parts: int, seed: int) -> tuple[str, ...]:
    """Return the names of the speakers to hold out of one corpus, sorted."""
    speakers, clips = _speakers(table, "speakers to hold out")
    labels, genders = (
        _counts(clips, table[name].to_pylist(), len(speakers)) for name in ("emotion", "gender")
    )
    sizes = labels.sum(axis=1)
    n = min(parts, len(speakers))
    part = _balanced([labels, genders], n, seed)

    def cost(some: list[int]) -> tuple[float, ...]:
        share = sizes[some].sum() / sizes.sum()
        lacking = (labels[some].sum(axis=0) == 0).sum()
        return share > 0.5, lacking, abs(share - 1 / parts)

    candidates = [_removable(np.flatnonzero(part == k), labels) for k in range(n)]
    return tuple(sorted(speakers[i][1] for i in min(filter(None, candidates), key=cost, default=[])))


def _removable(some: NDArray[np.intp], labels: NDArray[np.float64]) -> list[int]:
    """Return those of some speakers whose removal leaves clips of every label; labels: (speakers, labels)."""
    left, removable = labels.sum(axis=0), []
    for speaker in some:
        if (left - labels[speaker] > 0).all():
            left = left - labels[speaker]
            removable.append(int(speaker))
    return removable


def _balanced(counts: Sequence[NDArray[np.float64]], n: int, seed: int) -> NDArray[np.intp]:
    """Distribute speakers over n parts, the largest first, each to the part with the least of their groups.

    ``counts``: (speakers, groups) each. No part stays empty, since an empty one always has the least.
    scikit-learn's StratifiedGroupKFold can leave parts empty, and rejects emotions with fewer than n clips.
    """
    shares = np.hstack([number / number.sum(axis=0) for number in counts])
    sizes = counts[0].sum(axis=1)
    order = np.random.default_rng(seed).permutation(len(sizes))
    load, clips, part = np.zeros((n, shares.shape[1])), np.zeros(n), np.zeros(len(sizes), dtype=np.intp)
    for speaker in order[np.argsort(-sizes[order], kind="stable")]:
        # The part that adds least to the sum of squared shares over the parts.
        chosen = np.lexsort((clips, load @ shares[speaker]))[0]
        part[speaker] = chosen
        load[chosen] += shares[speaker]
        clips[chosen] += sizes[speaker]
    return part


def _speakers(table: pa.Table, what: str) -> tuple[list[tuple[str | None, str]], NDArray[np.intp]]:
    """Return the speakers (corpus, name), sorted, and the index of each clip's speaker among them."""
    who = list(zip(table["corpus"].to_pylist(), table["speaker"].to_pylist(), strict=True))
    if unnamed := sum(speaker is None for _, speaker in who):
        raise InputError(
            f"{what}: {unnamed} of {len(who)} clips have no speaker; add a column speaker or split"
        )
    speakers = sorted(set(who), key=lambda one: (one[0] or "", one[1]))
    place = {one: i for i, one in enumerate(speakers)}
    return speakers, np.array([place[one] for one in who], dtype=np.intp)


def _counts(speakers: NDArray[np.intp], groups: Sequence[Any], n: int) -> NDArray[np.float64]:
    """Return the number of clips of each of n speakers (rows) in each group (columns)."""
    place = {group: i for i, group in enumerate(sorted(set(groups), key=str))}
    number = np.zeros((n, len(place)))
    for speaker, group in zip(speakers, groups, strict=True):
        number[speaker, place[group]] += 1
    return number


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)
