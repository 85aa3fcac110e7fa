"""The labelled clips of a training: train and dev parts, and their validation."""

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
MOST_NAMED = 12  # speakers per corpus listed in a log line

pc: Any = pyarrow.compute  # its functions are created at run time, invisible to type checkers


def training_table(config: TrainConfig) -> pa.Table:
    """Return CLIPS with split train or dev; other splits are left out.

    A manifest without splits is all train, or all dev if given to --dev; --dev none leaves out split dev.
    InputError without training clips, for a single label, a speaker in both splits, or a dev label that no
    training clip has.
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
    """Return the table, with some speakers moved to dev if there are no dev clips, and these speakers.

    The same table and seed give the same speakers, so that a resumed training has the same split.
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
    """One line on the held-out speakers, or on why there are no dev clips; None if dev clips were given."""
    splits = table["split"].to_pylist()
    if held_out:
        share = splits.count("dev") / len(splits)
        return f"held out for dev: speakers {listed(held_out)} ({share:.0%} of clips)"
    if "dev" in splits:
        return None
    instead = f"give dev clips with {'--splits' if config.corpus else '--dev'}"
    if config.dev:
        why = f"--dev {config.dev}"
    elif unnamed := table["speaker"].null_count:
        why = f"{unnamed} of {len(table)} clips have no speaker; {instead}"
    else:
        why = f"no speaker can be held out without losing a label; {instead}"
    return f"no dev clips, so no epoch is evaluated and the last one is saved: {why}"


def listed(held_out: HeldOut, most: int | None = MOST_NAMED) -> str:
    """Speakers by corpus, as text; most: maximum listed per corpus."""
    several = len(held_out) > 1
    parts = []
    for corpus, speakers in held_out.items():
        more = f" and {len(speakers) - most} more" if most and len(speakers) > most else ""
        parts.append((f"{corpus} " if several else "") + ", ".join(speakers[:most]) + more)
    return "; ".join(parts)


def load_dev(config: TrainConfig) -> pa.Table:
    """Return the clips of --dev; here a single label is allowed."""
    assert config.dev
    try:
        return load([config.dev], config.splits)
    except InputError as error:
        raise InputError(f"--dev {error}") from None


def checked(table: pa.Table) -> pa.Table:
    """Return the table; InputError unless train has at least two labels and every label of dev."""
    train = table.filter(pc.equal(table["split"], "train"))
    if not len(train):
        raise InputError("no clip is in split train; give --splits or a column split")
    check_classes(train, "the training clips")
    untrained = [name for name in label_set(table) if name not in label_set(train)]
    if untrained:
        raise InputError(
            f"dev clips have labels without training clips: {', '.join(untrained)}; leave them out with "
            f"--labels {','.join(label_set(train))}"
        )
    return table


def _in_split(table: pa.Table, split: str, with_dev: bool = False) -> pa.Table:
    """The clips of a split (and of dev); if no clip has a split, all clips, as this split."""
    if table["split"].null_count == len(table):
        place = table.column_names.index("split")
        return table.set_column(place, "split", pa.array([split] * len(table), pa.string()))
    wanted = [split, "dev"] if with_dev else [split]
    chosen = table.filter(pc.is_in(table["split"], value_set=pa.array(wanted)))
    if not pc.any(pc.equal(chosen["split"], split)).as_py():
        raise InputError(f"no clip is in split {split}; give --splits or a column split")
    return chosen


def fingerprint(table: pa.Table) -> str:
    """Hash of the clips: a training resumes only with the same data."""
    digest = hashlib.sha256()
    for row in table.select(["uri", "start_s", "end_s", "emotion", "split"]).to_pylist():
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()[:16]


def counted(table: pa.Table) -> str:
    """Number of clips by split and corpus, as text."""
    number = Counter(zip(table["split"].to_pylist(), table["corpus"].to_pylist(), strict=True))
    parts = []
    for split in ("train", "dev"):
        corpora = {str(corpus): n for (s, corpus), n in number.items() if s == split}
        if corpora:
            parts.append(
                f"{sum(corpora.values()):,} {split} ({', '.join(f'{c} {n:,}' for c, n in corpora.items())})"
            )
    return "; ".join(parts)
