"""Names in the output folder of a run over an archive."""

import re

import pyarrow as pa
import pyarrow.parquet as pq

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import REJECTS, TEMPORARY, Output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.stores import retried

PLAN = "plan/plan.json"
ENCODED, PASSES = "encoded", "encoded/encoded.json"
SEGMENTS, RECORDINGS = "segments", "recordings"
LABELLED = "labelled"  # the counts of each part whose tables are written, one file per part
PRIOR = f"{LABELLED}/prior.json"  # the biases of --prior
RUN = "run.json"
TABLES = (SEGMENTS, RECORDINGS, REJECTS, LABELLED)
OURS = ("plan", ENCODED, *TABLES)
_TABLE_OF_PLAN = re.compile(r"plan/\d{3,}/(recordings|bundles|dropped)\.parquet")
_IDS = {"recordings": "plan_key", "bundles": "bundle_id", "dropped": "recording_id"}


def plan_file(increment: int, name: str) -> str:
    """Name of a table of one increment of the plan: recordings, bundles or dropped."""
    return f"plan/{increment:03}/{name}.parquet"


def part_file(table: str, part: int) -> str:
    """Name of a part's file of segments, recordings or rejects."""
    return f"{table}/part-{part:06}.parquet"


def clear(out: Output) -> None:
    """Delete a run's tables and nothing else in the folder; InputError if no run wrote them."""
    if out.read_json(PLAN) is None:  # tables labelled from another output's embeddings have no plan
        clear_unfinished_plan(out)
        if not has_lost_its_plan(out):
            claim(out, record=RUN, what="run", ours=OURS, decides=None, overwrite=True)
    for name in (RUN, *OURS):
        out.delete(name)


def clear_unfinished_plan(out: Output) -> None:
    """Delete what a killed run wrote of a plan before its last file, plan.json, if nothing else is there.

    Files of another program stay.
    """
    files = [path.removeprefix(f"{out.root}/") for path in out.files("plan")]
    if not out.exists(PLAN) and all(_is_of_plan(out, name) for name in files):
        if any(out.exists(name) for name in (ENCODED, *TABLES)):
            return
        out.delete("plan")


def has_lost_its_plan(out: Output) -> bool:
    """Whether a run wrote the folder, but its plan.json is gone."""
    return not out.exists(PLAN) and _is_record(out, PASSES)


def _is_of_plan(out: Output, name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    if (base.startswith(".") and base.endswith(TEMPORARY)) or name == f"{PLAN}.tmp" or not base:
        return True
    if (match := _TABLE_OF_PLAN.fullmatch(name)) is None:
        return False
    column = _IDS[match[1]]

    def look() -> bool:
        with out.fs.open_input_file(out.path(name)) as file:
            if file.size() == 0:
                return True
            try:
                return column in pq.ParquetFile(file).schema_arrow.names
            except pa.ArrowInvalid:  # cut off
                file.seek(0)
                return file.read(4) == b"PAR1"

    return retried(look, out.fs)


def _is_record(out: Output, name: str) -> bool:
    try:
        return out.read_json(name) is not None
    except InputError:
        return False
