"""From what a user calls an archive to a table of recordings."""

import hashlib
from typing import Any

import pyarrow as pa

from zsfuse_ray.audio.demo import demo_uris
from zsfuse_ray.audio.files import check_scheme, is_sidecar, list_files
from zsfuse_ray.audio.manifest import MANIFESTS, PROBE, read_manifest
from zsfuse_ray.errors import InputError, redact

COLUMNS = ("recording_id", "uri", "start_s", "end_s", "size")


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
    files = list_files(archive)
    audio = [file for file in files if not is_sidecar(file["uri"])]
    if not audio:
        beside = f"; {len(files)} other files" if files else ""
        raise InputError(f"{redact(archive)}: no audio in it (looked for any audio or video file{beside})")
    return _recordings(audio)


def fingerprint(table: pa.Table) -> str:
    """Hash of a table's rows, to see whether an archive is still what a plan was made from."""
    digest = hashlib.sha256(str(table.schema).encode())
    for batch in table.combine_chunks().to_batches(max_chunksize=65536):
        digest.update(batch.serialize())
    return digest.hexdigest()[:16]


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


def carry(columns: dict[str, Any], recordings: pa.Table) -> None:
    """Add a manifest's own columns to those of a table, as manifest_NAME where a name is taken."""
    for name in recordings.column_names:
        if name not in COLUMNS and not name.startswith(PROBE):
            columns[f"manifest_{name}" if name in columns else name] = recordings[name]
