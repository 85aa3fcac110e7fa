"""Fake corpora in the real layouts, with empty audio files: reading labels does not open them."""

from pathlib import Path

import pyarrow as pa
import pytest

from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.errors import InputError


def touch(folder: Path, *names: str) -> str:
    """Create empty files of these names in the folder; return the folder."""
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
    """Return the message of the InputError that the call raises; it must be a single line."""
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def clips(*rows: dict) -> pa.Table:
    """Return a table of clips; missing values are null, except for the URI."""
    full = [dict.fromkeys(CLIPS.names) | {"uri": f"{i}.wav"} | row for i, row in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=CLIPS)


def by_stem(table: pa.Table) -> dict[str, dict]:
    return {Path(row["uri"]).stem: row for row in table.to_pylist()}


def columns(table: pa.Table, *names: str) -> dict[str, tuple]:
    """Return a dict from file stem to the values of these columns."""
    return {stem: tuple(row[name] for name in names) for stem, row in by_stem(table).items()}
