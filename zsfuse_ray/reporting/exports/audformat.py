"""An audformat database (https://audeering.github.io/audformat/), written by its own library."""

from importlib import import_module
from typing import Any

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import column
from zsfuse_ray.reporting.exports.labelled import LabelledRun
from zsfuse_ray.runs.folder import Output


def check() -> None:
    """InputError if the library is not installed."""
    try:
        import_module("audformat")
    except ImportError:
        raise InputError("--format audformat needs its library: pip install audformat") from None


def write(run: LabelledRun, out: Output) -> None:
    """Write the database with a segmented table: label, confidence and the probability of each label.

    It holds all segments in memory.
    """
    import pandas as pd

    audformat: Any = import_module("audformat")

    labels = run.record["config"]["labels"]
    columns = [
        "recording_uri",
        "start_s",
        "end_s",
        "label",
        "confidence",
        *(f"p_{column(one)}" for one in labels),
    ]
    empty = run.schema.empty_table().select(columns).to_pandas()
    rows: Any = pd.concat([empty, *(batch.select(columns).to_pandas() for batch in run.batches())])
    base = audformat.Database(
        "emotions",
        description=f"Emotions of speech segments, by {run.models}",
        usage="other",
    )
    base.schemes["emotion"] = audformat.Scheme("str", labels=list(run.labels))
    base.schemes["probability"] = audformat.Scheme("float", minimum=0, maximum=1)
    index = audformat.segmented_index(
        rows["recording_uri"].tolist(),
        pd.to_timedelta(rows["start_s"], unit="s"),
        pd.to_timedelta(rows["end_s"], unit="s"),
    )
    table = base["segments"] = audformat.Table(index)
    for name, scheme in (("label", "emotion"), ("confidence", "probability")):
        table[name] = audformat.Column(scheme_id=scheme)
        table[name].set(rows[name].to_numpy())
    for name in columns[5:]:
        table[name] = audformat.Column(scheme_id="probability")
        table[name].set(rows[name].to_numpy())
    with out.as_folder() as folder:
        base.save(str(folder), storage_format="parquet")
