"""Changes of an archive compared with a plain dictionary."""

import tempfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.archive import probing
from zsfuse_ray.archive.growth import compare, extend_plan
from zsfuse_ray.archive.listing import KEY, VERSION
from zsfuse_ray.archive.plan import open_plan
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.runs.folder import Output


def listing_of(archive: dict[int, int]) -> pa.Table:
    keys, versions = list(archive), list(archive.values())
    columns = {"uri": [f"{key}.wav" for key in keys], "start_s": pa.nulls(len(keys), pa.float64())}
    columns |= {"end_s": pa.nulls(len(keys), pa.float64()), "size": pa.nulls(len(keys), pa.int64())}
    return pa.table(columns | {KEY: pa.array(keys, pa.int64()), VERSION: pa.array(versions, pa.int64())})


def no_files(uris: pa.Table, *others) -> pa.Table:
    rows = [{"recording_id": n, "duration_s": 3.0, "exact": True} for n in uris["recording_id"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=probing.PROBED)


states = st.dictionaries(st.integers(-4, 4), st.integers(0, 2), max_size=7)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(states, st.booleans()), min_size=1, max_size=5))
def test_changes_match_a_dictionary(steps: list[tuple[dict[int, int], bool]]) -> None:
    """Recordings are added, changed, removed and restored, with and without pruning."""
    planned: dict[int, tuple[int, int]] = {}  # key → version, recording id
    dropped: set[int] = set()
    last = 0
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("zsfuse_ray.archive.growth.probe_all", no_files)
        out, plan = Output.open(place), None
        for archive, prune in steps:
            listing = listing_of(archive)
            changes = compare(plan, listing)
            keys = list(archive)
            assert [keys[n] for n in changes.new] == [key for key in keys if key not in planned]
            changed = [key for key in keys if key in planned and planned[key][0] != archive[key]]
            assert [keys[n] for n in changes.changed] == changed
            assert changes.outdated.tolist() == [planned[key][1] for key in changed]
            gone = [key for key in planned if key not in archive]
            assert sorted(changes.gone.tolist()) == sorted(planned[key][1] for key in gone)
            if plan is not None and not changes.grows(prune):
                assert archive == {key: planned[key][0] for key in archive}
                continue
            plan = extend_plan(PlanConfig(input="x", output=place, prune=prune), out, listing, plan, changes)
            dropped |= {planned[key][1] for key in changed + (gone if prune else [])}
            for key in gone if prune else []:
                del planned[key]
            for key in keys:
                if key not in planned or planned[key][0] != archive[key]:
                    planned[key] = (archive[key], last)
                    last += 1
            assert set(plan.dropped.tolist()) == dropped
            again = open_plan(out)
            assert again.parts() == plan.parts()
            assert [number for part in again.parts() for number in range(part.first, part.end)] == list(
                range(last)
            )
            assert {number for part in again.parts() for number in part.dropped} == dropped
