"""A run's folder before compaction, and what lies in it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_run import ITEM_S, LABELS, PARTS, planned_rows, scored_rows

from zsfuse_ray.archive.plan import bundle_items
from zsfuse_ray.archive.rows import BUNDLE, SCORED
from zsfuse_ray.archive.tables import flatten, planned_recordings
from zsfuse_ray.runs.folder import BUNDLES, ITEMS, RECORDINGS_PLANNED, SEGMENTS, Output


@pytest.fixture
def planned() -> pa.Table:
    return pa.Table.from_pylist(planned_rows())


@pytest.fixture
def rows(planned: pa.Table) -> list[dict]:
    return scored_rows(list(bundle_items(planned, ITEM_S)), np.random.default_rng(0))


@pytest.fixture
def out(tmp_path: Path, planned: pa.Table, rows: list[dict]) -> Output:
    """A run's folder as it is before compaction, and segments/ of it."""
    out = Output.open(str(tmp_path))
    out.write_table(RECORDINGS_PLANNED, planned)
    out.write_table(BUNDLES, pa.Table.from_pylist(list(bundle_items(planned, ITEM_S)), schema=BUNDLE))
    for n, row in enumerate(rows):
        out.write_table(f"{ITEMS}/{n}.parquet", pa.Table.from_pylist([row], schema=SCORED))
        flat = flatten(pa.Table.from_pylist([row], schema=SCORED), planned_recordings(out), LABELS, PARTS)
        out.write_table(f"{SEGMENTS}/{n}.parquet", flat)
    return out
