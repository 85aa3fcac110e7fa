"""Train, dev and test parts: the rounds of an evaluation, and the facts reported with its metrics."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.corpora import splits
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.corpora.emobox import emobox_folds
from zsfuse_ray.corpora.registry import CORPORA
from zsfuse_ray.errors import InputError

Named = Literal["emobox", "loso", "split"]
_FOLDS = {"emobox": "folds of EmoBox", "loso": "folds of one speaker each"}


@dataclass(frozen=True, eq=False)
class Round:
    """Row indices of the train, dev (where choices are made) and test clips.

    With folds, ``dev`` is ``train``: only the SVM is trained there, and its posteriors of its own training
    clips come from inner folds.
    """

    train: NDArray[np.intp]
    dev: NDArray[np.intp]
    test: NDArray[np.intp]


@dataclass(frozen=True)
class Protocol:
    """The rounds of one corpus, and the facts reported with its metrics.

    names: of the rounds; apart: they are different test sets, which are not averaged.
    """

    rounds: tuple[Round, ...]
    facts: dict[str, Any]
    names: tuple[str, ...] = ()
    apart: bool = False


def protocol(
    clips: pa.Table, corpus: str, n_folds: int, split_name: str | None, named: Named | None = None
) -> Protocol:
    """Return a corpus' rounds: from its splits if any, else from its own folds, else from folds by speaker.

    clips: the corpus' rows of CLIPS. split_name: the user's --splits, recorded in the protocol. named:
    "emobox" takes EmoBox's folds, "loso" leaves out one speaker at a time, "split" needs splits, and keeps
    the test sets apart that a corpus names in a column split_set. InputError without dev or test clips, with
    a single label, or with too few speakers.
    """
    if len(label_set(clips)) < 2:
        raise InputError(f'{corpus}: every clip is labelled "{label_set(clips)[0]}"; at least two are needed')
    if named == "emobox":
        clips = emobox_folds(clips, corpus)
    if named == "loso":
        clips = _one_speaker_each(clips, corpus)
    split = np.array(clips["split"].to_pylist(), dtype=object)
    speaker = np.array(clips["speaker"].to_pylist(), dtype=object)
    used = split[split != None]  # noqa: E711 (elementwise)
    own_folds = named in ("emobox", "loso") and not clips["fold"].null_count
    if named == "split" and not used.size:
        raise InputError(f"{corpus}: no splits; give --splits, a column split, or another --protocol")
    names: tuple[str, ...] = ("test",)
    if used.size and not own_folds:
        rounds = (_split_round(split, corpus, needs_dev=named is None),)
        if named is not None and "split_set" in clips.column_names:
            rounds, names = _test_sets(rounds[0], np.array(clips["split_set"].to_pylist(), dtype=object))
        what = f"splits of {split_name or 'the corpus'}"
        averaged = "one test part" if len(rounds) == 1 else "none: each test set apart"
    else:
        own = clips["fold"].null_count == 0
        folded = clips if own else splits.folds(clips, n_folds)
        fold = folded["fold"].to_numpy()
        numbers = np.unique(fold)
        if len(numbers) < 2:
            raise InputError(f"{corpus}: all clips are in one fold; at least two are needed")
        parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in numbers]
        rounds = tuple(Round(others, others, test) for others, test in parts)
        names = tuple(f"fold-{number}" for number in numbers)
        what = (
            f"{len(numbers)} {_FOLDS.get(named or '', 'folds of the corpus' if own else 'folds by speaker')}"
        )
        averaged = f"mean over the {len(numbers)} folds, each tested with the choices made on the others"
    sizes = {
        part: {"clips": len(rows), "speakers": _named(speaker[rows])}
        for part in ("train", "dev", "test")
        for rows in [np.unique(np.concatenate([getattr(r, part) for r in rounds]))]
    }
    shared = {name for r in rounds for name in _shared(speaker, r)}
    facts = {
        "splits": what,
        "averaging": averaged,
        "parts": sizes,
        "choosing_speakers": min(_named(speaker[r.dev]) for r in rounds),
        "left_out": int(len(clips) - used.size) if used.size else 0,
        "shared_speakers": len(shared),
        "speaker_overlap": _overlap(len(shared), speaker),
        "merged": CORPORA[corpus].merged if corpus in CORPORA else "none",
    }
    apart = bool(used.size) and not own_folds and len(rounds) > 1
    return Protocol(rounds, facts, names, apart)


def _one_speaker_each(clips: pa.Table, corpus: str) -> pa.Table:
    """The clips with a fold for each speaker, in the order of their names."""
    speakers = clips["speaker"].to_pylist()
    if None in speakers:
        raise InputError(f"{corpus}: {speakers.count(None)} clips have no speaker to leave out")
    numbers = np.unique(np.array(speakers), return_inverse=True)[1] + 1
    place = clips.column_names.index("fold")
    return clips.set_column(place, clips.schema.field("fold"), pa.array(numbers, pa.int32()))


def _test_sets(r: Round, test_set: NDArray) -> tuple[tuple[Round, ...], tuple[str, ...]]:
    """A round for each test set, such as MSP-Podcast's Test1, with the same train and dev clips."""
    names = sorted({str(name) for name in test_set[r.test]})
    rounds = [replace(r, test=r.test[[str(one) == name for one in test_set[r.test]]]) for name in names]
    return tuple(rounds), tuple(names)


def _split_round(split: NDArray, corpus: str, needs_dev: bool) -> Round:
    """The round of splits; without dev clips, and if they are not needed, choices are made on train clips."""
    parts = {name: np.flatnonzero(split == name) for name in ("train", "dev", "test")}
    if not parts["dev"].size and not needs_dev:
        parts["dev"] = parts["train"]
    for name, use in (("test", "tested on"), ("dev", "chosen on")):
        if not parts[name].size:
            there = ", ".join(part for part, rows in parts.items() if rows.size)
            raise InputError(
                f"{corpus}: no clip is in split {name} (only in {there}), so nothing can be {use}; assign "
                f'some speakers to split "{name}", or omit the splits for folds by speaker'
            )
    train = parts["train"] if parts["train"].size else parts["dev"]
    return Round(train, parts["dev"], parts["test"])


def _named(speakers: NDArray) -> int:
    return len({name for name in speakers if name is not None})


def _shared(speakers: NDArray, r: Round) -> set[str]:
    seen = {*speakers[r.train], *speakers[r.dev]}
    return {name for name in speakers[r.test] if name is not None and name in seen}


def _overlap(shared: int, speakers: NDArray) -> str:
    unnamed = sum(name is None for name in speakers)
    if unnamed:
        return f"unknown: {unnamed} clips have no speaker"
    return "none" if not shared else f"{shared} speakers are in the test part and in train or dev"
