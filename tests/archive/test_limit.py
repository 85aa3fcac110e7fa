"""The first hours of a plan: whole bundles in their order, and the tables of exactly these."""

from dataclasses import replace

import numpy as np
import pytest

from tests.archive.encoded_folders import BOTH, Small
from tests.archive.labelled_parts import label_all, tables, task_of
from zsfuse_ray.archive.layout import plan_file
from zsfuse_ray.archive.limit import about_limit, as_far, bundle_files, first_hours, limit_of
from zsfuse_ray.archive.parts import planned_items
from zsfuse_ray.archive.passes import Computed, Pass
from zsfuse_ray.archive.whole import planned_bundles
from zsfuse_ray.runs.folder import Output


def bundle_hours(small: Small) -> list[float]:
    rows = small.out.read_table(plan_file(0, "bundles"))["items"].to_pylist()
    return [sum(item["end_s"] - item["start_s"] for item in row) / 3600 for row in rows]


def test_no_limit_or_a_high_one_is_the_whole_plan(small: Small) -> None:
    assert first_hours(small.plan, None) is small.plan
    assert first_hours(small.plan, 100.0) is small.plan
    assert about_limit(small.plan, small.plan) is None


@pytest.mark.parametrize("bundles", [1, 2, 3])
def test_a_limit_keeps_the_bundle_that_reaches_it(small: Small, bundles: int) -> None:
    each = bundle_hours(small)
    assert len(each) > 3
    for hours in (sum(each[:bundles]), sum(each[: bundles - 1]) + 1e-6):  # exactly, and just in it
        plan = first_hours(small.plan, hours)
        assert plan.total("bundles") == plan.bundle_end == bundles
        assert plan.total("hours") == pytest.approx(sum(each[:bundles]))
        ids = [planned_bundles(small.out, part) for part in plan.parts()]
        assert np.concatenate(ids).tolist() == list(range(bundles))
        items = [item for part in plan.parts() for item in planned_items(plan, part).to_pylist()]
        assert len(items) == plan.total("items")
        assert {item["recording_id"] for item in items} == set(range(int(plan.total("recordings"))))
    assert about_limit(plan, small.plan) == {"hours": plan.total("hours"), "of_hours": sum(each)}


def test_later_increments_are_left_out(small: Small) -> None:
    one = small.plan.increments[0]
    later = replace(one, first_recording=5, first_item=one.items, first_bundle=one.bundles, first_part=3)
    later = replace(later, parts=tuple(first + 5 for first in one.parts))
    plan = first_hours(replace(small.plan, increments=(one, later)), one.hours)
    assert [increment.bundles for increment in plan.increments] == [one.bundles, 0]
    assert plan.parts() == small.plan.parts()
    assert (plan.files("bundles", [0, 1]), plan.cut) == ([plan_file(0, "bundles")], (1,))


def test_tables_of_a_limited_run_are_the_first_rows_of_all(small: Small, tmp_path) -> None:
    """Also if more is encoded, as after a run without a limit that was killed."""
    encoded = small.encode(BOTH, per_file=2)
    label_all(task_of(small, encoded))
    whole = tables(small)
    plan = first_hours(small.plan, sum(bundle_hours(small)[:2]))
    out = Output.open(str(tmp_path / "limited"))
    incomplete = replace(encoded, passes=(replace(encoded.passes[0], complete=False),))
    task = replace(task_of(small, as_far(incomplete, plan)), plan=plan, out=out)
    label_all(task)
    last = int(plan.total("items"))
    found = tables(replace(small, out=out))
    assert found["segments"] == [row for row in whole["segments"] if row["item_id"] < last]
    assert 0 < len(found["segments"]) < len(whole["segments"])
    assert [row["recording_id"] for row in found["recordings"]] == [0]
    assert found["rejects"] == []


def test_only_a_finished_run_has_a_limit() -> None:
    run = {"status": "complete", "config": {"limit_hours": 2.0}}
    assert limit_of(run) == 2.0
    assert limit_of(run | {"status": "started"}) is None
    assert limit_of(None) is None
    assert limit_of({"status": "complete", "config": {}}) is None


def test_a_pass_over_a_cut_plan_reads_its_bundles_only(small: Small) -> None:
    one = Pass("000", (0,), {"alm": Computed((1,))})
    assert bundle_files(small.plan, one) == [plan_file(0, "bundles")]
    (name,) = bundle_files(first_hours(small.plan, sum(bundle_hours(small)[:2])), one)
    rows, whole = (small.out.read_table(file).to_pylist() for file in (name, plan_file(0, "bundles")))
    assert rows == whole[:2]
    small.out.delete(one.limited)
    assert not small.out.exists(name)
