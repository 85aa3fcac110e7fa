"""The labelled clips of a training: who trains, who chooses the best epoch, and what must hold of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute

from zsfuse_ray.config.train import NO_DEV, TrainConfig
from zsfuse_ray.corpora.clips import check_classes, check_splits, label_set, with_labels
from zsfuse_ray.corpora.load import concatenated, load
from zsfuse_ray.corpora.splits import held_out_speakers
from zsfuse_ray.errors import InputError

HeldOut = Mapping[str | None, tuple[str, ...]]  # speakers by corpus
MOST_NAMED = 12  # speakers of a corpus that a line on the screen names

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers


def training_table(config: TrainConfig) -> pa.Table:
    """Return CLIPS with split train or dev; the others are left out.

    A manifest without splits is all train, or all dev where --dev names it; --dev none leaves out split dev.
    InputError for no training clip, one label alone, a speaker in both splits, dev clips of a label that
    training clips lack.
    """
    if config.train:
        table = _in_split(load([config.train], config.splits), "train", with_dev=not config.dev)
        if config.dev and config.dev != NO_DEV:
            dev = _in_split(load_dev(config), "dev")
            table = concatenated([table, dev])
            check_splits(table)
    else:
        table = _in_split(load(config.corpus, config.splits), "train", with_dev=not config.dev)
    if config.labels:
        table = with_labels(table, config.labels)
    return checked(table)


def with_dev_speakers(table: pa.Table, config: TrainConfig) -> tuple[pa.Table, HeldOut]:
    """Return the table with speakers moved to dev where no dev clips are named, and who they are.

    The same table and seed give the same speakers, so that a training that resumes has the same split.
    """
    if config.dev or "dev" in table["split"].to_pylist():
        return table, {}
    held_out = held_out_speakers(table, seed=config.seed)
    to_dev = {(corpus, speaker) for corpus, speakers in held_out.items() for speaker in speakers}
    who = zip(table["corpus"].to_pylist(), table["speaker"].to_pylist(), strict=True)
    splits = ["dev" if one in to_dev else "train" for one in who]
    place = table.column_names.index("split")
    return table.set_column(place, "split", pa.array(splits, pa.string())), held_out


def about_dev(table: pa.Table, config: TrainConfig, held_out: HeldOut) -> str | None:
    """One line on who was held out, or on why there are no dev clips; None where dev clips are named."""
    splits = table["split"].to_pylist()
    if held_out:
        share = splits.count("dev") / len(splits)
        return f"held out for dev: speakers {listed(held_out)} ({share:.0%} of clips)"
    if "dev" in splits:
        return None
    instead = f"{'--splits' if config.corpus else '--dev'} names dev clips"
    if config.dev:
        why = f"--dev {config.dev}"
    elif nameless := table["speaker"].null_count:
        why = f"{nameless} of {len(table)} clips name no speaker; {instead}"
    else:
        why = f"no speaker can be held out without losing a label; {instead}"
    return f"no dev clips, so no epoch is measured and the last one is saved: {why}"


def listed(held_out: HeldOut, most: int | None = MOST_NAMED) -> str:
    """Speakers by corpus, in words; most: of a corpus that are named."""
    several = len(held_out) > 1
    parts = []
    for corpus, speakers in held_out.items():
        more = f" and {len(speakers) - most} more" if most and len(speakers) > most else ""
        parts.append((f"{corpus} " if several else "") + ", ".join(speakers[:most]) + more)
    return "; ".join(parts)


def load_dev(config: TrainConfig) -> pa.Table:
    """Return the clips of --dev; one label alone is no mistake there, as long as training has it."""
    assert config.dev
    try:
        return load([config.dev], config.splits)
    except InputError as error:
        raise InputError(f"--dev {error}") from None


def checked(table: pa.Table) -> pa.Table:
    """Return the table; InputError unless training has at least two labels, and all that dev has."""
    train = table.filter(pc.equal(table["split"], "train"))
    if not len(train):
        raise InputError("no clip is in split train: give --splits, or a column split")
    check_classes(train, "the training clips")
    strange = [name for name in label_set(table) if name not in label_set(train)]
    if strange:
        raise InputError(
            f"no training clip is labelled {', '.join(strange)}, as dev clips are; leave them out with "
            f"--labels {','.join(label_set(train))}"
        )
    return table


def _in_split(table: pa.Table, split: str, with_dev: bool = False) -> pa.Table:
    """The clips of a split (and of dev); all of them, as this split, where none has any."""
    if table["split"].null_count == len(table):
        place = table.column_names.index("split")
        return table.set_column(place, "split", pa.array([split] * len(table), pa.string()))
    wanted = [split, "dev"] if with_dev else [split]
    chosen = table.filter(pc.is_in(table["split"], value_set=pa.array(wanted)))
    if not pc.any(pc.equal(chosen["split"], split)).as_py():
        raise InputError(f"no clip is in split {split}: give --splits, or a column split")
    return chosen


def fingerprint(table: pa.Table) -> str:
    """Hash of the clips: a training resumes only with the data that it began with."""
    digest = hashlib.sha256()
    for row in table.select(["uri", "start_s", "end_s", "emotion", "split"]).to_pylist():
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()[:16]


def counted(table: pa.Table) -> str:
    """Clips by split and corpus, in words."""
    number = Counter(zip(table["split"].to_pylist(), table["corpus"].to_pylist(), strict=True))
    parts = []
    for split in ("train", "dev"):
        corpora = {str(corpus): n for (s, corpus), n in number.items() if s == split}
        if corpora:
            parts.append(
                f"{sum(corpora.values()):,} {split} ({', '.join(f'{c} {n:,}' for c, n in corpora.items())})"
            )
    return "; ".join(parts)
