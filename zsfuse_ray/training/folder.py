"""The output folder of a training: its files, and the training it belongs to."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
from pyarrow import fs as pafs

from zsfuse_ray.runs.folder import LOCK, Output
from zsfuse_ray.runs.ownership import claim

RUN, REJECTS, METRICS, CARD = "training.json", "rejects.csv", "metrics.json", "README.md"
STORAGE, CURVES = "training", "tensorboard"  # Ray Train's checkpoints, and curves


def earlier_run(out: Output, decides: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The record of an earlier run of the same training; InputError for any other content of the folder.

    decides: the options that determine the result. A model is saved beside its record, so without a record
    any file is rejected.
    """
    return claim(out, record=RUN, what="training", ours=_names(out), decides=decides, overwrite=overwrite)


def _names(out: Output) -> list[str]:
    files = out.fs.get_file_info(pafs.FileSelector(out.root, allow_not_found=True))
    return [
        file.base_name for file in files if file.base_name and not file.base_name.startswith(LOCK)
    ]  # an object store may list a folder marker without a name


def clear(out: Output) -> None:
    """Delete the files of an earlier training; the model itself is overwritten."""
    for name in (STORAGE, CURVES, RUN, REJECTS, METRICS, CARD):
        out.delete(name)


def write_rejects(out: Output, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the list of unreadable clips; returns its path."""
    content = io.BytesIO()
    pyarrow.csv.write_csv(pa.Table.from_pylist(list(rows)), content)
    out.write_bytes(REJECTS, content.getvalue())
    return f"{out.uri}/{REJECTS}"
