"""The first hours of a plan: what a run with ``--limit-hours`` encodes and labels.

The limit is a view of the plan, by whole bundles in their order, and never written: passes over the audio
stay incomplete, so a later command without the limit, or with a higher one, encodes only what is left.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow.dataset as ds

from zsfuse_ray.archive.layout import plan_file
from zsfuse_ray.archive.passes import Encoded, Pass
from zsfuse_ray.archive.plan import ROW_GROUP, Increment, Plan

OPTION = "limit_hours"
CLOSE_H = 1e-9  # rounding of sums of hours


def first_hours(plan: Plan, hours: float | None) -> Plan:
    """The plan up to the bundle with which it reaches these hours of audio; all of it if it has no more.

    The last recording may be cut: its other items are left for later.
    """
    if hours is None or plan.total("hours") <= hours:
        return plan
    left, increments, cut = hours, [], []
    for number, one in enumerate(plan.increments):
        if one.hours > left and one.bundles:
            shorter = _first_hours(plan, number, left)
            if shorter.bundles < one.bundles:
                cut.append(number)
            one = shorter
        left -= one.hours
        increments.append(one)
    return replace(plan, increments=tuple(increments), cut=tuple(cut))


def _first_hours(plan: Plan, number: int, hours: float) -> Increment:
    """An increment up to the bundle with which it reaches these hours, without any if there are none left."""
    one = plan.increments[number]
    if hours <= CLOSE_H:
        return _shortened(one, 0.0, 0, 0, 0)
    seconds, bundles, items, recordings = 0.0, 0, 0, 0
    for batch in plan.out.dataset(plan_file(number, "bundles")).to_batches(columns=["items"]):
        for row in batch.column("items").to_pylist():
            if seconds / 3600 >= hours - CLOSE_H:
                return _shortened(one, seconds, bundles, items, recordings)
            bundles, items = bundles + 1, items + len(row)
            seconds += sum(item["end_s"] - item["start_s"] for item in row)
            recordings = max(item["recording_id"] for item in row) - one.first_recording + 1
    return one  # its last bundle reaches the limit


def _shortened(one: Increment, seconds: float, bundles: int, items: int, recordings: int) -> Increment:
    parts = tuple(first for first in one.parts if first < one.first_recording + recordings)
    return replace(
        one, hours=seconds / 3600, bundles=bundles, items=items, recordings=recordings, parts=parts
    )


def bundle_files(plan: Plan, one: Pass) -> list[str]:
    """Names of the tables with a pass's bundles; of a cut increment that is a copy of its first rows.

    Ray Data's checkpoint is known to be exact only for tables that are read as they are.
    """
    files = plan.files("bundles", [n for n in one.increments if n not in plan.cut])
    for number in sorted(set(one.increments) & set(plan.cut)):
        if plan.increments[number].bundles:
            table = plan.out.dataset(plan_file(number, "bundles"))
            first = table.to_table(filter=ds.field("bundle_id") < plan.bundle_end)
            files.append(f"{one.limited}/{number:03}.parquet")
            plan.out.write_table(files[-1], first, row_group_size=ROW_GROUP)
    return files


def as_far(encoded: Encoded, plan: Plan) -> Encoded:
    """The record of encoded/ for a limited plan whose bundles are all there: its passes count as complete."""
    passes = [replace(p, complete=True) if set(p.increments) & set(plan.cut) else p for p in encoded.passes]
    return replace(encoded, passes=tuple(passes))


def limit_of(run: Mapping[str, Any] | None) -> float | None:
    """The limit of a finished run, None without one."""
    if run is None or run.get("status") != "complete":
        return None
    return run["config"].get(OPTION)


def about_limit(plan: Plan, whole: Plan) -> dict[str, float] | None:
    """Hours of a limited plan and of the whole one, for run.json; None if nothing is left out."""
    if not plan.cut and plan.total("hours") == whole.total("hours"):
        return None
    return {"hours": plan.total("hours"), "of_hours": whole.total("hours")}
