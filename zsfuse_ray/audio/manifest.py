"""A manifest: a table file that names recordings, or slices of them."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.audio.demo import is_demo
from zsfuse_ray.audio.files import suffix
from zsfuse_ray.audio.rows import SUFFIXES, heading_key, read_rows
from zsfuse_ray.errors import InputError, nearest, redact
from zsfuse_ray.stores import check_scheme, url_path

log = logging.getLogger(__name__)

PROBE = "probe_"
PLANNED = (PROBE, "plan_")  # begin the names of the columns that a plan adds
TEXT_COLUMNS = ("uri", "id", "emotion", "speaker", "gender", "sentence", "split", "fold")  # "007" stays "007"

# Headings by their `heading_key`, in order of preference: the first that is there is used.
URIS = (
    "uri", "url", "audio_filepath", "audio_file", "audio_path", "audio", "wav", "wav_path", "file",
    "filepath", "file_path", "filename", "file_name", "path", "recording",
)  # fmt: skip
STARTS = (
    "start_s", "start", "start_sec", "start_secs", "start_seconds", "start_time", "start_time_s", "starttime",
    "begin_s", "begin", "begin_time", "onset_s", "onset", "segment_start", "tmin", "xmin", "offset_s",
    "offset", "start_ms", "begin_ms", "onset_ms", "offset_ms",
)  # fmt: skip
ENDS = (
    "end_s", "end", "end_sec", "end_secs", "end_seconds", "end_time", "end_time_s", "endtime", "stop_s",
    "stop", "stop_time", "segment_end", "tmax", "xmax", "end_ms", "stop_ms",
)  # fmt: skip
OFFSETS = ("offset_s", "offset", "offset_ms")  # of a clip in its file; beside an onset, the end of an event
DURATIONS = (
    "duration_s", "duration", "duration_sec", "duration_secs", "duration_seconds", "dur_s", "dur",
    "duration_ms",
)  # fmt: skip


def is_manifest(uri: str) -> bool:
    """Whether a file name is that of a manifest, by its suffix."""
    return suffix(uri) in SUFFIXES


def read_manifest(path: str, uri_column: Sequence[str] = URIS) -> pa.Table:
    """A manifest as a table: uri, start_s, end_s, size, then its other columns as they are.

    Columns are recognised by URIS, STARTS, ENDS, DURATIONS and TEXT_COLUMNS, whatever their case; the first
    of ``uri_column`` that is there holds the URIs. A duration beside a start, or in a manifest of NeMo's
    form, gives the end; any other is carried along. A column whose name is taken becomes manifest_NAME. A
    relative uri is taken from the manifest's folder. InputError, with row and column, for a missing column,
    an empty table, a value that is not a number, a slice that ends before it starts.
    """
    table = read_rows(path, (*TEXT_COLUMNS, *uri_column))
    headings, others = _roles(table.column_names, path, uri_column)
    if not len(table):
        raise InputError(f"{redact(path)}: the manifest has no rows")
    uris = _uris(table[headings["uri"]], headings["uri"], path)
    start, end = _slices(table, headings, path)
    columns: dict[str, Any] = {
        "uri": pa.array(uris, pa.string()),
        "start_s": pa.array(start, mask=np.isnan(start)),
        "end_s": pa.array(end, mask=np.isnan(end)),
        "size": pa.nulls(len(table), pa.int64()),
    }
    taken = {*columns, "recording_id"}
    keys = {name: heading_key(name) for name in others}
    named = {name: keys[name] if keys[name] in TEXT_COLUMNS else name for name in others}
    free = own_names(list(named.values()), lambda name: name in taken or name.startswith(PLANNED))
    for name in others:
        values = table[name]
        if pa.types.is_dictionary(values.type):  # a hash of rows would not see the values
            values = values.cast(values.type.value_type)
        columns[free[named[name]]] = values
    return pa.table(columns)


def read_texts(path: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a small table file with these columns, read as text; no more of it is kept.

    InputError where one of the columns is missing.
    """
    table = read_rows(path, columns)
    by_key = {heading_key(name): name for name in table.column_names}
    if missing := next((name for name in columns if name not in by_key), None):
        raise InputError(f"{redact(path)}: no column {missing}{nearest(missing, table.column_names)}")
    texts = {name: table[by_key[name]].cast(pa.string()) for name in columns}
    return pa.table(texts).to_pylist()


def own_names(names: Sequence[str], is_taken: Callable[[str], bool]) -> dict[str, str]:
    """Name in a table of each of a manifest's columns: manifest_NAME if it is taken, whatever their order.

    is_taken: of a name in lower case, because SQL does not distinguish them.
    """
    found = {name: name for name in names if not is_taken(name.casefold())}
    used = {name.casefold() for name in found}
    for name in names:
        if name in found:
            continue
        free = name
        while is_taken(free.casefold()) or free.casefold() in used:
            free = f"manifest_{free}"
        found[name] = free
        used.add(free.casefold())
    return {name: found[name] for name in names}


def _roles(names: list[str], path: str, uri_column: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The headings of uri, start, end and duration, where there are such columns, and those of all others."""
    keys = [heading_key(name) for name in names]
    known = (*TEXT_COLUMNS, *URIS, *STARTS, *ENDS, *DURATIONS)
    for name, key in zip(names, keys, strict=True):
        if names.count(name) > 1 or (key in known and keys.count(key) > 1):
            raise InputError(f"{redact(path)}: column {name} is there twice")
    by_key = dict(zip(keys, names, strict=True))
    uri = _first(uri_column, by_key)
    if uri is None:
        wanted = "uri" if uri_column is URIS else " or ".join(uri_column)
        raise InputError(f"{redact(path)}: a manifest needs a column {wanted}{nearest(uri_column[0], names)}")
    start = _first(STARTS, by_key)
    of_event = start is not None and "onset" in start  # onset and offset: where a sound begins and ends
    end = _first((*ENDS, *OFFSETS) if of_event else ENDS, by_key)
    duration = None
    if end is None and (start is not None or uri == "audio_filepath"):
        duration = _first(DURATIONS, by_key)
    chosen = {"uri": uri, "start": start, "end": end, "duration": duration}
    headings = {role: by_key[key] for role, key in chosen.items() if key is not None}
    others = [name for name in names if name not in headings.values()]
    for role, wanted in (("start", "start_s"), ("end", "end_s")):
        free = [key for key in keys if by_key[key] in others and key not in known]
        if role not in headings and (close := get_close_matches(wanted, free, n=1, cutoff=0.8)):
            log.warning(
                f"warning: {redact(path)}: column {by_key[close[0]]} is only carried along "
                f"(did you mean {wanted}?)"
            )
    return headings, others


def _first(wanted: Sequence[str], there: Mapping[str, str]) -> str | None:
    return next((key for key in wanted if key in there), None)


def _uris(column: pa.ChunkedArray, heading: str, path: str) -> list[str]:
    given = column.to_pylist()
    rows = [n for n, uri in enumerate(given, start=1) if not isinstance(uri, str | None)]
    if rows:
        raise InputError(f"{redact(path)}: row {rows[0]}: column {heading} must hold text")
    if rows := [n for n, uri in enumerate(given, start=1) if not (uri or "").strip()]:
        raise InputError(
            f"{redact(path)}: {len(rows)} rows have no uri: column {heading} is empty in row {rows[0]}"
        )
    plain = url_path(path)
    base = plain.rsplit("/", 1)[0] if "://" in plain else os.path.dirname(os.path.abspath(plain))
    uris = []
    for number, uri in enumerate(given, start=1):
        is_absolute = "://" in uri or uri.startswith("/") or is_demo(uri)
        try:
            uris.append(check_scheme(uri if is_absolute else f"{base}/{uri}"))
        except InputError as error:
            raise InputError(f"{redact(path)}: row {number}: {error}") from None
    return uris


def _slices(
    table: pa.Table, headings: Mapping[str, str], path: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start and end of each row's slice in seconds, NaN where it is the recording's."""
    start, end, duration = (
        _seconds(table, headings.get(name), path) for name in ("start", "end", "duration")
    )
    begin = np.nan_to_num(start)
    if "duration" in headings:
        end = begin + duration
    wrong = np.flatnonzero((begin < 0) | (end <= begin))
    if len(wrong):
        row = int(wrong[0])
        named = [f"{heading} {table[heading][row]}" for role, heading in headings.items() if role != "uri"]
        uri, others = redact(str(table[headings["uri"]][row])), len(wrong) - 1
        raise InputError(
            f"{redact(path)}: row {row + 1} ({uri}): {', '.join(named)}: a slice must have "
            f"0 <= start_s < end_s{f'; so in {others} more rows' if others else ''}"
        )
    return start, end


def _seconds(table: pa.Table, heading: str | None, path: str) -> NDArray[np.float64]:
    """A column of seconds, or of milliseconds by its heading, with NaN for no value."""
    if heading is None:
        return np.full(len(table), np.nan)
    column = table[heading]
    scale = 0.001 if heading_key(heading).endswith("_ms") else 1.0
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        values = column.cast(pa.float64())
        seconds = values.to_numpy()
        wrong = np.flatnonzero(~np.isfinite(seconds) & values.is_valid().to_numpy())
        if not len(wrong):
            return seconds * scale
        row = int(wrong[0])
    else:
        seconds = np.full(len(table), np.nan)
        for row, value in enumerate(column.to_pylist()):
            text = "" if value is None else str(value).strip()
            number = _number(text)
            if text and not math.isfinite(number):
                break
            seconds[row] = number
        else:
            return seconds * scale
    raise InputError(
        f"{redact(path)}: row {row + 1}: column {heading} must hold seconds as numbers, "
        f"not {str(column[row])[:40]}"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
