"""The common table of labelled clips that every corpus is converted to, and its checks."""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
import pyarrow.compute

from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method.labels import SYNONYMS, canonical

pc: Any = pyarrow.compute  # its functions are generated at import: type checkers do not see them
logger = logging.getLogger(__name__)

# One row per clip. Extra columns (intensity, style, transcript, …) follow these.
CLIPS = pa.schema(
    [
        ("uri", pa.string()),
        ("start_s", pa.float64()),  # null: start of the file
        ("end_s", pa.float64()),  # null: end of the file
        ("emotion", pa.string()),  # canonical name, or the user's own in lower case
        ("speaker", pa.string()),
        ("gender", pa.string()),
        ("sentence", pa.string()),  # the spoken text, or the corpus' identifier of it
        ("corpus", pa.string()),
        ("split", pa.string()),  # train, dev, test
        ("fold", pa.int32()),  # from 1: the fold whose test part contains the clip
    ]
)

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "valid", "validation", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_NAMES = {word: split for split, words in SPLITS.items() for word in words}
_NULL = pa.scalar(None, pa.string())
_GENDERS = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}
_UNKNOWN = ("", "unknown", "nan", "none", "null", "n/a", "na")


def labelled(table: pa.Table, source: str = "the table", corpus: str | None = None) -> pa.Table:
    """Return the table as CLIPS plus its extra columns, with normalised emotions, splits, genders and folds.

    ``corpus`` fills missing corpus names. Known emotion names become canonical ("Anger" -> "angry"); others
    are the user's own and only lower-cased. InputError, naming ``source``, if the label column is missing,
    a clip has no label, or a split or fold is invalid.
    """
    names = table.column_names
    if "emotion" not in names:
        usual = [name for name in names if name.lower() in ("label", "class", "category", "emo")]
        close = get_close_matches("emotion", names, n=1) or usual
        hint = f'; rename "{close[0]}"?' if close else ""
        raise InputError(f"{source}: no label column emotion among {', '.join(names)}{hint}")
    if not len(table):
        raise InputError(f"{source}: contains no labelled clips")
    columns = {name: table[name] for name in ("uri", "start_s", "end_s") if name in names}
    for name in ("emotion", "speaker", "gender", "sentence", "corpus", "split"):
        if name in names:
            columns[name] = _texts(table, name, source)
    emotions = columns["emotion"].to_pylist()
    if missing := emotions.count(None):
        raise InputError(f"{source}: {missing} of {len(table)} clips have no emotion; remove them")
    columns["emotion"] = pa.array([canonical(name) for name in emotions], pa.string())
    if "gender" in columns:
        lower = pc.utf8_lower(columns["gender"]).to_pylist()
        columns["gender"] = pa.array([_GENDERS.get(name, name) for name in lower], pa.string())
    if "split" in columns:
        splits = columns["split"].to_pylist()
        columns["split"] = pa.array([split_name(name, source) for name in splits], pa.string())
    if "fold" in names:
        columns["fold"] = _folds(table, source)
    if corpus is not None:
        given = columns.get("corpus", pa.nulls(len(table), pa.string()))
        columns["corpus"] = pc.fill_null(given, corpus)
    tidy = [columns.get(field.name, pa.nulls(len(table), field.type)) for field in CLIPS]
    clips = pa.table(tidy, schema=CLIPS)
    for name in names:
        kind = table[name].type
        if name not in (*CLIPS.names, "size") and not pa.types.is_nested(kind) and not pa.types.is_null(kind):
            clips = clips.append_column(name, table[name])
    _warn_misspelt(label_set(clips), source)
    return clips


def split_name(name: str | None, source: str) -> str | None:
    """Return train, dev or test for any of their usual names; InputError for anything else."""
    if name is None or (split := _SPLIT_NAMES.get(name.lower())):
        return None if name is None else split
    raise InputError(f"{source}: split {name!r} is unknown{nearest(name, SPLITS)}")


def _texts(table: pa.Table, name: str, source: str) -> pa.ChunkedArray:
    """Return a column as text, with null for words that mean unknown."""
    try:
        texts = pc.utf8_trim_whitespace(table[name].cast(pa.string()))
    except pa.ArrowException:
        raise InputError(f"{source}: column {name} must hold text") from None
    unknown = ("",) if name == "emotion" else _UNKNOWN  # "none" may be a user's label
    return pc.if_else(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(unknown)), _NULL, texts)


def _folds(table: pa.Table, source: str) -> pa.ChunkedArray:
    folds = table["fold"]
    try:
        if not pa.types.is_integer(folds.type):
            folds = _texts(table, "fold", source).cast(pa.float64())
        folds = folds.cast(pa.int32())
    except pa.ArrowException:
        folds = None
    if folds is None or pc.any(pc.less(folds, 1)).as_py():
        raise InputError(f"{source}: column fold must contain integers from 1")
    return folds


def _warn_misspelt(labels: Sequence[str], source: str) -> None:
    """Warn about labels close to a known name: probably misspelt, although own labels are allowed."""
    for label in labels:
        if label not in SYNONYMS and (close := get_close_matches(label, SYNONYMS, n=1, cutoff=0.8)):
            message = '%s: label "%s" is unknown and used as given (did you mean "%s"?)'
            logger.warning(message, source, label, close[0])


def label_set(table: pa.Table) -> tuple[str, ...]:
    """Return the emotions of the clips: known ones in the order of ``method.labels``, then the user's own."""
    present = set(table["emotion"].to_pylist())
    return (*(name for name in SYNONYMS if name in present), *sorted(present - set(SYNONYMS)))


def with_labels(table: pa.Table, labels: Sequence[str]) -> pa.Table:
    """Return the clips with one of these labels; InputError for a label without clips."""
    wanted = [canonical(label) for label in labels]
    present = label_set(table)
    if unknown := next((label for label in wanted if label not in present), None):
        raise InputError(f'no clip is labelled "{unknown}"{nearest(unknown, present)}')
    return table.filter(pc.is_in(table["emotion"], value_set=pa.array(wanted)))


def check_classes(table: pa.Table, source: str = "the clips") -> None:
    """Raise InputError unless there are clips of at least two emotions."""
    labels = label_set(table)
    if len(labels) < 2:
        problem = f'every clip is labelled "{"".join(labels)}"' if labels else "no labelled clips"
        raise InputError(f"{source}: {problem}; at least two labels are needed")


def shared_speakers(table: pa.Table) -> dict[tuple[str | None, str], tuple[str, ...]]:
    """Return speakers (corpus, name) with clips in several splits, and these splits; ignores null names."""
    splits: dict[tuple[str | None, str], set[str]] = defaultdict(set)
    columns = (table[name].to_pylist() for name in ("corpus", "speaker", "split"))
    for corpus, speaker, split in zip(*columns, strict=True):
        if speaker is not None and split is not None:
            splits[corpus, speaker].add(split)
    return {
        who: tuple(s for s in SPLITS if s in of_speaker)
        for who, of_speaker in splits.items()
        if len(of_speaker) > 1
    }


def check_splits(table: pa.Table, may_share: Collection[str] = ()) -> None:
    """Raise InputError if a clip, or a speaker (except in corpora in ``may_share``), is in two splits."""
    shared = {who: splits for who, splits in shared_speakers(table).items() if who[0] not in may_share}
    if shared:
        corpus, speaker = who = min(shared, key=str)
        more = f" (and {len(shared) - 1} more)" if len(shared) > 1 else ""
        raise InputError(f"speaker {speaker} of {corpus} is in both {' and '.join(shared[who])}{more}")
    seen: dict[tuple[str, float | None], str] = {}
    columns = (table[name].to_pylist() for name in ("uri", "start_s", "split"))
    for uri, start, split in zip(*columns, strict=True):
        if split is not None and (first := seen.setdefault((uri, start), split)) != split:
            raise InputError(f"clip {uri} is in both {first} and {split}")
