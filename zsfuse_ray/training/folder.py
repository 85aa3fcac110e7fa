"""The output of a training, a folder or in an object store: what lies in it, and whose it is."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
from pyarrow import fs as pafs

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output, refuse_other_config

RUN, REJECTS, METRICS, CARD = "training.json", "rejects.csv", "metrics.json", "README.md"
STORAGE, CURVES = "training", "tensorboard"  # Ray Train's checkpoints, and curves


def earlier_run(out: Output, decides: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """What an earlier run of the same training left here; InputError where what is here is another's.

    decides: the options that decide what comes out.
    """
    if not out.exists(RUN):
        there = out.fs.get_file_info(pafs.FileSelector(out.root, allow_not_found=True))
        if any(file.base_name for file in there):  # a store may keep a nameless mark of a folder
            raise InputError(f"--output {out.uri} holds files of something else; name a new folder")
        return None
    if overwrite:
        return None
    found = out.read_json(RUN) or {}
    then = found.get("config")
    if not isinstance(then, dict) or "status" not in found:
        raise InputError(f"{out.uri}/{RUN} is not of a training; use another --output or --overwrite")
    refuse_other_config(out, then, decides)
    return found


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
