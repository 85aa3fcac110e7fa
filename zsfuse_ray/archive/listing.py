"""List an archive as a table of recordings."""

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.bundles import TURNS
from zsfuse_ray.audio.demo import demo_uris
from zsfuse_ray.audio.files import is_sidecar, iter_files
from zsfuse_ray.audio.manifest import PLANNED, is_manifest, own_names, read_manifest
from zsfuse_ray.audio.redirects import allow_only
from zsfuse_ray.audio.rttm import read_turns
from zsfuse_ray.errors import InputError, redact, redact_uri
from zsfuse_ray.stores import check_scheme, is_allowed

LISTED = ("uri", "start_s", "end_s", "size")
# Hashes of a recording: of its identity, and of what changes with its content or its manifest row.
KEY, VERSION = "plan_key", "plan_version"
FILES_AT_ONCE = 20_000
_FILES = pa.schema(
    [
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("size", pa.int64()),
        ("version", pa.string()),
    ]
)


def list_archive(archive: str, allow_hosts: Sequence[str] = (), speakers: str | None = None) -> pa.Table:
    """Table of recordings: LISTED (size in bytes, null if unknown), a manifest's columns, KEY, VERSION.

    ``archive`` is ``demo``, a folder (searched recursively), a file, a glob, an object-store prefix or a
    manifest. A file is identified by its URI, and its version by size and ETag or modification time if
    available; a manifest's row by URI, slice and id, and its version by its other columns. InputError if
    nothing is found, or nothing that could be audio, or a manifest names an address that is not allowed.
    speakers: RTTM file or folder, see `read_turns`; turns are a column TURNS, and decide the version too.
    """
    allow_only(())  # the archive's own address is the user's
    if archive == "demo":
        table, _ = listed({"uri": uri} for uri in demo_uris())
    elif is_manifest(archive) and not os.path.isdir(archive):
        table = read_manifest(archive)
        if allow_hosts:
            _check_hosts(table, archive, allow_hosts)
            allow_only(allow_hosts)
        for place, field in enumerate(table.schema):
            if pa.types.is_null(field.type):  # empty so far; later rows may have values
                table = table.set_column(place, field.name, table[field.name].cast(pa.string()))
        return identified(_with_turns(table, speakers), pa.nulls(len(table), pa.string()))
    else:
        check_scheme(archive)
        table, sidecars = listed(iter_files(archive))
        if not len(table):
            others = f"; {sidecars} other files" if sidecars else ""
            missing = f"no audio in it (looked for any audio or video file{others})"
            raise InputError(f"{redact(archive)}: {missing}")
    return identified(_with_turns(table.select(LISTED), speakers), table["version"])


def _with_turns(recordings: pa.Table, speakers: str | None) -> pa.Table:
    if speakers is None:
        return recordings
    return recordings.append_column(TURNS, read_turns(speakers, recordings["uri"].to_pylist()))


def listed(files: Iterable[dict[str, Any]]) -> tuple[pa.Table, int]:
    """Recordings among files (uri, size, version) as a table: LISTED and version; and how many are none."""
    pieces, sidecars, left = [_FILES.empty_table()], 0, iter(files)
    while piece := list(islice(left, FILES_AT_ONCE)):  # millions as Python objects would fill the memory
        kept = [file for file in piece if not is_sidecar(file["uri"])]
        sidecars += len(piece) - len(kept)
        pieces.append(pa.Table.from_pylist(kept, schema=_FILES))
    return pa.concat_tables(pieces), sidecars


def _check_hosts(table: pa.Table, path: str, allowed: Sequence[str]) -> None:
    """InputError for the first row of a manifest whose address is not allowed."""
    for number, uri in enumerate(table["uri"].to_pylist(), start=1):
        if not is_allowed(uri, allowed):
            raise InputError(
                f"{redact(path)}: row {number}: {redact_uri(uri)} is not an address of --allow-hosts "
                f"{','.join(allowed)}"
            )


def list_recording(file: str, speakers: str | None = None) -> pa.Table:
    """Return the row of one file, as `list_archive` does; InputError if it is not exactly one recording."""
    row = list_archive(file, speakers=speakers)
    if len(row) != 1:
        raise InputError(
            f"{redact_uri(file)}: {len(row)} recordings; label one, or all of them with zsfuse score"
        )
    return row


def own_columns(recordings: pa.Table) -> list[str]:
    """Names of the manifest's own columns."""
    ours = ("recording_id", *LISTED)
    return [name for name in recordings.column_names if name not in ours and not name.startswith(PLANNED)]


def carry(columns: dict[str, Any], recordings: pa.Table) -> None:
    """Add a manifest's own columns to those of a table, as manifest_NAME if the name is taken."""
    taken = {name.casefold() for name in columns}
    for name, free in own_names(own_columns(recordings), taken.__contains__).items():
        columns[free] = recordings[name]


def identified(table: pa.Table, version: pa.Array | pa.ChunkedArray) -> pa.Table:
    """A listing with KEY and VERSION of each row. version: of the content, null if unknown."""
    identity = [name for name in ("uri", "start_s", "end_s", "id") if name in table.column_names]
    others = [name for name in table.column_names if name not in identity]
    keys = _distinct(_hashes(table.select(identity)))
    hashes = _hashes(table.select(others).append_column("version", version))
    return table.append_column(KEY, pa.array(keys)).append_column(VERSION, pa.array(hashes))


def _hashes(table: pa.Table) -> NDArray[np.int64]:
    """A hash of each row's values, the same in every process."""
    hashes = np.empty(len(table), np.int64)
    place = 0
    for batch in table.to_batches(max_chunksize=65536):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            plain = tuple(None if value == "" else value for value in row)  # a csv has both for no value
            digest = blake2b(repr(plain).encode(errors="surrogatepass"), digest_size=8).digest()
            hashes[place] = int.from_bytes(digest, "little", signed=True)
            place += 1
    return hashes


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unique keys: a second, third … occurrence of a key is hashed with its number."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
    number = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))
    for place in np.flatnonzero(number):
        digest = blake2b(f"{ordered[place]} {number[place]}".encode(), digest_size=8).digest()
        ordered[place] = int.from_bytes(digest, "little", signed=True)
    distinct = np.empty_like(keys)
    distinct[order] = ordered
    return distinct
