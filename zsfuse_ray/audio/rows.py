"""Rows of a table that a person or a tool wrote: csv, tsv, json lines, a json array, parquet."""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from zsfuse_ray.audio.files import cause, suffix
from zsfuse_ray.audio.sources import SourceError, open_audio
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.stores import check_scheme

JSON = (".jsonl", ".ndjson", ".json")  # NeMo's .json holds json lines
SUFFIXES = (".csv", ".tsv", *JSON, ".parquet")
CHUNK_ROWS = 50_000  # rows held as Python objects
LONGEST_FIELD = 1 << 30


def read_rows(path: str, texts: Sequence[str] = ()) -> pa.Table:
    """The table in a file; ``texts``: columns of a csv to be read as text, by their `heading_key`.

    A csv may be separated by commas, semicolons or tabs and be UTF-8 or UTF-16, as spreadsheets write it;
    columns and rows without any content are left out, a column with content but without a heading becomes
    column_N. Headings are trimmed. InputError, with the row counted from 1 below the headings.
    """
    check_scheme(path)
    try:
        with open_audio(path) as file:
            if suffix(path) == ".parquet":
                return pq.read_table(file)
            text = _decoded(file)
        if suffix(path) in JSON:
            return _read_json(text)
        return _read_csv(text, "\t,;" if suffix(path) == ".tsv" else ",;\t", texts)
    except (SourceError, pa.ArrowException, OSError, ValueError, csv.Error) as error:
        why = cause(error)
        if isinstance(error, UnicodeError):
            why = f"its text is not UTF-8; save it as UTF-8 ({why})"
        raise InputError(f"{redact(path)}: cannot read the manifest: {redact(why, path)}") from None


def heading_key(name: str) -> str:
    """A heading for comparison: "Start (s)" and "START_S " are start_s."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.casefold()).split()
    return "_".join(words)


def _decoded(file: BinaryIO) -> str:
    content = file.read()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def _read_csv(text: str, delimiters: str, texts: Sequence[str]) -> pa.Table:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(delimiters, key=first.count)
    try:
        tidy, names = _tidy(text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error:
        if delimiter != "\t":
            raise
        tidy, names = _tidy(text, delimiter, csv.QUOTE_NONE)  # transcripts with a single quotation mark
    if not tidy:
        return pa.table([pa.array([], pa.string())] * len(names), names)
    types = {name: pa.string() for name in names if heading_key(name) in texts}
    table = pyarrow.csv.read_csv(
        io.BytesIO(tidy),
        # one block: types depend on all rows, and no row is too long for it
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=len(tidy) + 1),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, decimal_point="," if delimiter == ";" else "."
        ),
    )
    unnamed = [place for place, name in enumerate(names) if not name]
    for place in unnamed:
        names[place] = f"column_{place + 1}"
    empty = [names[place] for place in unnamed if pa.types.is_null(table.schema.field(place).type)]
    return table.rename_columns(names).drop_columns(empty)


def _tidy(text: str, delimiter: str, quoting: Any) -> tuple[bytes, list[str]]:
    """The rows as a plain csv without headings, and the headings, trimmed. ValueError, csv.Error.

    If headings are padded with spaces, cells are trimmed as well.
    """
    csv.field_size_limit(LONGEST_FIELD)

    def filled(is_padded: bool) -> Iterator[list[str]]:
        lines = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quoting=quoting,
            skipinitialspace=is_padded,
            strict=True,
        )
        return (row for row in lines if any(map(str.strip, row)))

    headings = next(filled(False), None)
    if headings is None:
        raise ValueError("it is empty")
    names = [name.strip() for name in headings]
    is_padded = names != headings
    tidy = io.StringIO()
    writer = csv.writer(tidy, quoting=csv.QUOTE_ALL)
    for number, row in enumerate(islice(filled(is_padded), 1, None), start=1):
        if any(map(str.strip, row[len(names) :])):
            raise ValueError(f"row {number} has {len(row)} columns, the headings {len(names)}: {row[0][:80]}")
        cells = (row + [""] * len(names))[: len(names)]  # spreadsheets leave out empty cells at the end
        writer.writerow([cell.strip() for cell in cells] if is_padded else cells)
    return tidy.getvalue().encode(), names


def _read_json(text: str) -> pa.Table:
    rows = iter(_json_rows(text))
    tables = []
    while chunk := list(islice(rows, CHUNK_ROWS)):
        names = dict.fromkeys(name for row in chunk for name in row)
        arrays = [_array([row.get(name) for row in chunk]) for name in names]
        tables.append(pa.table(arrays, [name.strip() for name in names]))
    if not tables:
        return pa.table({"uri": pa.array([], pa.string())})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:  # types differ between chunks
        columns = [[_as_text(table[name].to_pylist()) for name in table.column_names] for table in tables]
        texts = [pa.table(c, table.column_names) for c, table in zip(columns, tables, strict=True)]
        return pa.concat_tables(texts, promote_options="default")


def _json_rows(text: str) -> Iterator[dict[str, Any]]:
    """The objects of json lines, or of one array. ValueError names the row."""
    if text.lstrip().startswith("["):
        found: Iterable[Any] = json.loads(text)
    else:
        found = (_parsed(n, line) for n, line in enumerate(filter(str.strip, text.split("\n")), start=1))
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is not a JSON object: {str(row)[:80]}")
        yield row


def _parsed(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"row {number} is not a JSON object ({error}): {line[:80]}") from None


def _array(values: list[Any]) -> pa.Array:
    """Values as a column; as text if they are of several types."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return _as_text(values)


def _as_text(values: list[Any]) -> pa.Array:
    plain = (value if value is None or isinstance(value, str) else json.dumps(value) for value in values)
    whole = [None if text is None else text.encode(errors="replace").decode() for text in plain]
    return pa.array(whole, pa.string())
