"""Corpora in their true layouts, with empty audio: reading labels opens none."""

from pathlib import Path

import pyarrow as pa
import pytest

from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.errors import InputError


def touch(folder: Path, *names: str) -> str:
    """The folder, with empty files of these names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def write(path: Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def refusal(call, *args, **options) -> str:
    """The one line a user sees."""
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def clips(*rows: dict) -> pa.Table:
    """A table of clips; what a row does not say is null, but each has a uri of its own."""
    full = [dict.fromkeys(CLIPS.names) | {"uri": f"{i}.wav"} | row for i, row in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=CLIPS)


def by_stem(table: pa.Table) -> dict[str, dict]:
    return {Path(row["uri"]).stem: row for row in table.to_pylist()}


def columns(table: pa.Table, *names: str) -> dict[str, tuple]:
    """From a file's stem to these columns."""
    return {stem: tuple(row[name] for name in names) for stem, row in by_stem(table).items()}
