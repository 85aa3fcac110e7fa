"""The output folder of a training: what lies in it, and which training it belongs to."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
from pyarrow import fs as pafs

from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import claim

RUN, REJECTS, METRICS, CARD = "training.json", "rejects.csv", "metrics.json", "README.md"
STORAGE, CURVES = "training", "tensorboard"  # Ray Train's checkpoints, and curves


def earlier_run(out: Output, decides: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The record that an earlier run of the same training left; InputError for anything else in the folder.

    decides: the options that decide what comes out. A model is saved beside its record, so without a record
    every file is in the way.
    """
    return claim(out, record=RUN, what="training", ours=_names(out), decides=decides, overwrite=overwrite)


def _names(out: Output) -> list[str]:
    there = out.fs.get_file_info(pafs.FileSelector(out.root, allow_not_found=True))
    return [
        file.base_name for file in there if file.base_name
    ]  # a store may keep a nameless mark of a folder


def clear(out: Output) -> None:
    """Delete what an earlier training left; the model itself is written over."""
    for name in (STORAGE, CURVES, RUN, REJECTS, METRICS, CARD):
        out.delete(name)


def write_rejects(out: Output, rows: Sequence[Mapping[str, Any]]) -> str:
    """List clips that could not be read; returns where."""
    content = io.BytesIO()
    pyarrow.csv.write_csv(pa.Table.from_pylist(list(rows)), content)
    out.write_bytes(REJECTS, content.getvalue())
    return f"{out.uri}/{REJECTS}"
