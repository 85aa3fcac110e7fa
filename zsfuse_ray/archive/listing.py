"""From what a user calls an archive to a table of recordings."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from zsfuse_ray.audio.demo import demo_uris
from zsfuse_ray.audio.sources import SourceError, open_audio, redact
from zsfuse_ray.errors import InputError, nearest

MANIFESTS = (".csv", ".jsonl", ".parquet")
SCHEMES = ("s3", "http", "https", "hf", "file", "demo")

# What lies beside recordings and is never one. Everything else is tried, whatever its name.
SIDECARS = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".md", ".xml", ".html", ".htm", ".pdf",
    ".yaml", ".yml", ".toml", ".log", ".py", ".nfo", ".cue", ".m3u", ".m3u8", ".rss", ".srt",
    ".vtt", ".lab", ".textgrid", ".eaf", ".trs", ".rttm", ".ctm", ".stm", ".zip", ".gz", ".tar",
    ".bz2", ".xz", ".7z", ".doc", ".docx", ".xls", ".xlsx",
))  # fmt: skip
COLUMNS = ("recording_id", "uri", "start_s", "end_s", "size")
PROBE = "probe_"  # begins the names of the columns that a plan adds
TEXT_COLUMNS = ("uri", "id", "emotion", "speaker", "gender", "sentence", "split", "fold")  # "007" stays "007"


def list_archive(archive: str) -> pa.Table:
    """Table of recordings: COLUMNS (size in bytes; null where not known), then those of a manifest.

    ``archive`` is ``demo``, a folder (searched whole), a file, a glob, an object-store prefix or a manifest.
    InputError where there is nothing, or nothing that could be audio.
    """
    if archive == "demo":
        return _recordings([{"uri": uri} for uri in demo_uris()])
    if archive.lower().endswith(MANIFESTS):
        return _number(read_manifest(archive))
    check_scheme(archive)
    files = _files(archive)
    audio = [file for file in files if not _is_sidecar(file["uri"])]
    if not audio:
        beside = f"; {len(files)} other files" if files else ""
        raise InputError(f"{redact(archive)}: no audio in it (looked for any audio or video file{beside})")
    return _recordings(audio)


def check_scheme(uri: str) -> str:
    """Return the URI; InputError where no reader is for its scheme."""
    scheme = (
        match.group(1) if (match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)) and "://" in uri else "file"
    )
    if scheme not in SCHEMES or "::" in uri:
        known = ", ".join(f"{name}://" for name in SCHEMES if name not in ("demo", "file"))
        raise InputError(f"{redact(uri)}: cannot read {scheme}:// (a path, or {known})")
    return uri


def fingerprint(table: pa.Table) -> str:
    """Hash of a table's rows, to see whether an archive is still what a plan was made from."""
    digest = hashlib.sha256(str(table.schema).encode())
    for batch in table.combine_chunks().to_batches(max_chunksize=65536):
        digest.update(batch.serialize())
    return digest.hexdigest()[:16]


def _files(archive: str) -> list[dict[str, Any]]:
    is_local = "://" not in archive or archive.startswith("file://")
    is_glob = any(c in archive for c in "*?[")
    if (is_local and not is_glob) or os.path.exists(archive):
        return _local_files(archive)
    if archive.startswith(("http://", "https://")):
        return [{"uri": archive}]
    try:
        fs, path = url_to_fs(archive)
        if is_glob:
            found = fs.glob(path, detail=True)
        elif fs.isfile(path):
            found = {path: fs.info(path)}
        else:
            found = fs.find(path, detail=True)
    except Exception as error:  # each store has its own errors; a user needs the same line from all of them
        raise InputError(f"{redact(archive)}: {redact(_cause(error))}") from None
    prefix = "" if fs.protocol in ("file", ("file", "local")) else f"{archive.split('://')[0]}://"
    listed = [
        {"uri": prefix + name, "size": info.get("size")}
        for name, info in sorted(found.items())
        if info.get("type") == "file" and not _is_hidden(name)
    ]
    if not listed:
        raise InputError(f"{redact(archive)}: nothing there (no file matches)")
    return listed


def _local_files(archive: str) -> list[dict[str, Any]]:
    path = Path(archive.removeprefix("file://")).expanduser()
    if path.is_file():
        return [_local(path)]
    if not path.is_dir():
        raise InputError(f"{archive}: no such file or folder")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        found += [_local(Path(folder) / name) for name in sorted(names) if not _is_hidden(name)]
    if not found:
        raise InputError(f"{archive}: the folder is empty")
    return found


def _local(path: Path) -> dict[str, Any]:
    return {"uri": _text(os.path.abspath(path)), "size": path.stat().st_size if path.exists() else None}


def _text(path: str) -> str:
    """The path, or its file:// URI where a name holds bytes that are no text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _is_hidden(name: str) -> bool:
    return os.path.basename(name).startswith(".")


def _is_sidecar(uri: str) -> bool:
    return os.path.splitext(uri)[1].lower() in SIDECARS


def _cause(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _recordings(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        "uri": pa.array([row["uri"] for row in rows], pa.string()),
        "start_s": pa.nulls(len(rows), pa.float64()),
        "end_s": pa.nulls(len(rows), pa.float64()),
        "size": pa.array([row.get("size") for row in rows], pa.int64()),
    }
    return _number(pa.table(columns))


def _number(table: pa.Table) -> pa.Table:
    return table.add_column(0, "recording_id", pa.array(range(len(table)), pa.int64()))


def read_manifest(path: str) -> pa.Table:
    """A csv, jsonl or parquet manifest: uri, start_s, end_s, size, then its other columns as they are.

    One whose name is taken becomes manifest_NAME. A relative uri is taken from the manifest's folder.
    InputError for a missing column, an empty table, a slice that ends before it starts.
    """
    table = _parse_manifest(path)
    if "uri" not in table.column_names:
        raise InputError(f"{redact(path)}: a manifest needs a column uri{nearest('uri', table.column_names)}")
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
            is_taken = name in taken or name.startswith(PROBE)
            columns[f"manifest_{name}" if is_taken else name] = _plain(table[name])
    return pa.table(columns)


def carry(columns: dict[str, Any], recordings: pa.Table) -> None:
    """Add a manifest's own columns to those of a table, as manifest_NAME where a name is taken."""
    for name in recordings.column_names:
        if name not in COLUMNS and not name.startswith(PROBE):
            columns[f"manifest_{name}" if name in columns else name] = recordings[name]


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values without a dictionary, which ``fingerprint`` would not see."""
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _parse_manifest(path: str) -> pa.Table:
    check_scheme(path)
    try:
        with open_audio(path) as file:
            if path.lower().endswith(".parquet"):
                return pq.read_table(file)
            if path.lower().endswith(".jsonl"):
                return pyarrow.json.read_json(file)
            texts = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(TEXT_COLUMNS, pa.string()))
            return pyarrow.csv.read_csv(file, convert_options=texts)
    except (SourceError, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{redact(path)}: cannot read the manifest: {redact(_cause(error))}") from None


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
