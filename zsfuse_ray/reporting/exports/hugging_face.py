"""A folder that ``datasets.load_dataset`` reads: Parquet files and a card; the label is a ClassLabel."""

import json
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
import yaml

from zsfuse_ray.reporting.exports.labelled import LabelledRun
from zsfuse_ray.runs.folder import Output

BATCHES_PER_FILE = 16


def write(run: LabelledRun, out: Output) -> None:
    """Write data/*.parquet, some million rows a file, and README.md."""
    names = list(run.labels)
    schema = run.schema.set(run.schema.get_field_index("label"), pa.field("label", pa.int64()))
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": _features(schema) | features}})}
    schema = schema.with_metadata(metadata)

    def tables() -> Iterator[pa.Table]:
        for batch in run.batches():
            place = batch.schema.get_field_index("label")
            number = pa.array([names.index(label) for label in batch.column(place).to_pylist()], pa.int64())
            yield pa.Table.from_batches([batch.set_column(place, schema.field(place), number)]).cast(schema)

    rest = tables()
    for n, first in enumerate(rest):
        table = pa.concat_tables([first, *islice(rest, BATCHES_PER_FILE - 1)])
        out.write_table(f"data/train-{n:05}.parquet", table)
    if not out.exists("data"):
        out.write_table("data/train-00000.parquet", schema.empty_table())
    files = [{"split": "train", "path": "data/train-*.parquet"}]
    licences = sorted({str(facts["licence"]) for facts in run.record["models"].values()})
    head = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]})
    card = (
        f"---\n{head}---\n\n# Emotions of speech segments\n\nLabelled by zsfuse_ray "
        f"{run.record['versions']['zsfuse_ray']} with {run.models} (licence of the models: "
        f"{'; '.join(licences)}). The audio is not included: `recording_uri` names it, `start_s` and `end_s` "
        "are seconds in it.\n"
    )
    out.write_bytes("README.md", card.encode())


def _features(schema: pa.Schema) -> dict[str, dict]:
    """Features of the columns that have a plain type; the others' follow from the Parquet file."""
    plain = {pa.string(): "string", pa.float32(): "float32", pa.float64(): "float64", pa.int64(): "int64"}
    return {one.name: {"dtype": plain[one.type], "_type": "Value"} for one in schema if one.type in plain}
