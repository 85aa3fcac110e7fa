"""All columns of all segments in one file: CSV, or one JSON object a line."""

import json

import pyarrow as pa
import pyarrow.csv as pacsv

from zsfuse_ray.reporting.exports.labelled import LabelledRun
from zsfuse_ray.runs.folder import Output


def write_csv(run: LabelledRun, out: Output) -> None:
    """Write segments.csv with a heading; columns that hold lists or records are written as JSON."""
    flat = pa.schema([(one.name, pa.string() if _is_nested(one.type) else one.type) for one in run.schema])
    with (
        out.fs.open_output_stream(out.path("segments.csv")) as file,
        pacsv.CSVWriter(file, flat) as writer,
    ):
        for batch in run.batches():
            columns = [
                pa.array([None if v is None else json.dumps(v, default=str) for v in column.to_pylist()])
                if _is_nested(column.type)
                else column
                for column in batch.columns
            ]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=flat))


def write_jsonl(run: LabelledRun, out: Output) -> None:
    """Write segments.jsonl; dates and other values that JSON lacks are written as text."""
    with out.fs.open_output_stream(out.path("segments.jsonl")) as file:
        for batch in run.batches():
            lines = [json.dumps(row, ensure_ascii=False, default=str) for row in batch.to_pylist()]
            file.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))


def _is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind)
