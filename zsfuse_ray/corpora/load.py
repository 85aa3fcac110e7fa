"""Load labelled clips from several sources into one table."""

import logging
from collections.abc import Sequence

import pyarrow as pa

from zsfuse_ray.corpora.clips import CLIPS, check_classes, check_splits, shared_speakers
from zsfuse_ray.corpora.readers import corpus_of, read
from zsfuse_ray.corpora.registry import CORPORA
from zsfuse_ray.corpora.splits import read_split
from zsfuse_ray.errors import InputError, redact

logger = logging.getLogger(__name__)


def load(sources: Sequence[str], split_file: str | None = None) -> pa.Table:
    """Read the sources (see ``readers.read``) into one table of CLIPS and all their extra columns.

    ``split_file`` is a csv of corpus, speaker, split that replaces the sources' own splits; ``mini`` is the
    split the shipped models were trained with. InputError if there are no sources, the clips have a single
    emotion, or a speaker or clip is in two splits.
    """
    if not sources:
        raise InputError("no labelled clips given; give a manifest or CORPUS:FOLDER")
    tables = [read(source) for source in sources]
    table = concatenated(tables)
    if split_file:
        table = read_split(split_file, table)
    check_classes(table, redact(", ".join(sources)) if len(sources) < 4 else f"{len(sources)} sources")
    allowed: set[str] = set()
    for source, part in zip(sources, tables, strict=True):
        if not split_file and _may_share_speakers(source) and (shared := shared_speakers(part)):
            message = "%s: its own splits share %d speakers; report this with the results"
            logger.warning(message, redact(source), len(shared))
            allowed |= {corpus for corpus, _ in shared if corpus is not None}
    check_splits(table, allowed)
    return table


def _may_share_speakers(source: str) -> bool:
    """Return whether the source's own splits follow a protocol with shared speakers."""
    name = corpus_of(source)
    return name == "emobox" or (name in CORPORA and CORPORA[name].shares_speakers)


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table of all rows; missing extra columns are null, columns of mixed types become text."""
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            if not pa.types.is_null(field.type):
                types.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, kinds in types.items() if len(kinds) > 1 and not all(map(_is_number, kinds))}
    plain = []
    for table in tables:
        for name in mixed & set(table.column_names):
            place = table.column_names.index(name)
            table = table.set_column(place, name, table[name].cast(pa.string()))
        plain.append(table)
    joined = pa.concat_tables(plain, promote_options="permissive")
    return joined.select([*CLIPS.names, *(name for name in joined.column_names if name not in CLIPS.names)])


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
