"""A manifest: a csv, jsonl or parquet file that names recordings, or slices of them."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from zsfuse_ray.audio.files import cause
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.errors import InputError, nearest, redact
from zsfuse_ray.stores import check_scheme

MANIFESTS = (".csv", ".jsonl", ".parquet")
PROBE = "probe_"
PLANNED = (PROBE, "plan_")  # begin the names of the columns that a plan adds
TEXT_COLUMNS = ("uri", "id", "emotion", "speaker", "gender", "sentence", "split", "fold")  # "007" stays "007"


def read_manifest(path: str, uri_column: Sequence[str] = ("uri",)) -> pa.Table:
    """A csv, jsonl or parquet manifest: uri, start_s, end_s, size, then its other columns as they are.

    The first of ``uri_column`` that is there holds the URIs. A column whose name is taken becomes
    manifest_NAME. A relative uri is taken from the manifest's folder. InputError for a missing column, an
    empty table, a slice that ends before it starts.
    """
    table = _parse_manifest(path)
    named = next((name for name in uri_column if name in table.column_names), None)
    if named is None:
        wanted = " or ".join(uri_column)
        raise InputError(
            f"{redact(path)}: a manifest needs a column {wanted}{nearest(uri_column[0], table.column_names)}"
        )
    if named != "uri":
        table = table.rename_columns({named: "uri"})
    if twice := next((name for name in table.column_names if table.column_names.count(name) > 1), None):
        raise InputError(f"{redact(path)}: column {twice} is there twice")
    if not len(table):
        raise InputError(f"{redact(path)}: the manifest has no rows")
    given = table["uri"].to_pylist()
    if not all(isinstance(uri, str | None) for uri in given):
        raise InputError(f"{redact(path)}: column uri must hold text")
    if missing := sum(not uri for uri in given):
        raise InputError(f"{redact(path)}: {missing} rows have no uri")
    base = path.rsplit("/", 1)[0] if "://" in path else os.path.dirname(os.path.abspath(path))
    uris = [check_scheme(_absolute(uri, base)) for uri in given]
    columns: dict[str, Any] = {"uri": pa.array(uris, pa.string())}
    for name in ("start_s", "end_s"):
        columns[name] = _seconds(table, name, path)
    slices = zip(columns["start_s"].to_pylist(), columns["end_s"].to_pylist(), strict=True)
    if any((start or 0.0) < 0 or (end is not None and end <= (start or 0.0)) for start, end in slices):
        raise InputError(f"{redact(path)}: a slice must have 0 <= start_s < end_s")
    columns["size"] = pa.nulls(len(table), pa.int64())
    taken = {"recording_id", "size"}
    for name in table.column_names:
        if name not in ("uri", "start_s", "end_s"):
            is_taken = name in taken or name.startswith(PLANNED)
            columns[f"manifest_{name}" if is_taken else name] = _plain(table[name])
    return pa.table(columns)


def read_texts(path: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a small table (csv, jsonl, parquet) with these columns, read as text; no more of it is kept.

    InputError where one of the columns is missing.
    """
    table = _parse_manifest(path, columns)
    if missing := next((name for name in columns if name not in table.column_names), None):
        raise InputError(f"{redact(path)}: no column {missing}{nearest(missing, table.column_names)}")
    return table.select(list(columns)).cast(pa.schema([(name, pa.string()) for name in columns])).to_pylist()


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values without a dictionary, which ``fingerprint`` would not see."""
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _parse_manifest(path: str, texts: Sequence[str] = TEXT_COLUMNS) -> pa.Table:
    check_scheme(path)
    try:
        with open_audio(path) as file:
            if path.lower().endswith(".parquet"):
                return pq.read_table(file)
            if path.lower().endswith(".jsonl"):
                return pyarrow.json.read_json(file)
            types = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
            return pyarrow.csv.read_csv(file, convert_options=types)
    except (SourceError, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{redact(path)}: cannot read the manifest: {redact(cause(error))}") from None


def _absolute(uri: str, base: str) -> str:
    return uri if "://" in uri or uri.startswith(("/", "demo:")) else f"{base}/{uri}"


def _seconds(table: pa.Table, name: str, path: str) -> Any:
    if name not in table.column_names:
        return pa.nulls(len(table), pa.float64())
    try:
        seconds = table[name].cast(pa.float64()).combine_chunks()
    except pa.ArrowException:
        seconds = None
    if seconds is None or not np.isfinite(seconds.drop_null().to_numpy()).all():
        raise InputError(f"{redact(path)}: column {name} must hold seconds as numbers")
    return seconds
