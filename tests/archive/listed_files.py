"""Folders and manifests for tests of listing."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def touch(folder: Path, *names: str) -> Path:
    """A folder with files of these names; a listing does not read their content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")
    return folder


def manifest(folder: Path, suffix: str, rows: list[dict]) -> str:
    path = folder / f"list{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [
            ",".join(rows[0]),
            *(",".join("" if v is None else str(v) for v in r.values()) for r in rows),
        ]
        path.write_text("\n".join(lines) + "\n")
    return str(path)
