"""The plan of an archive, which grows with it: what was listed when, cut into items, bundles and parts.

Each time an archive has new or changed recordings an *increment* is added: tables of its recordings and
bundles, whose ids go on from those before, and the ids of recordings that it drops. Nothing that was planned
before is changed, so that what was encoded and labelled before stays.
"""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.bundles import bundle_items, cut_parts
from zsfuse_ray.archive.layout import PLAN, plan_file, refuse_strangers
from zsfuse_ray.archive.listing import KEY, VERSION, own_columns
from zsfuse_ray.archive.probing import PROBED, probe_all
from zsfuse_ray.archive.schemas import BUNDLE
from zsfuse_ray.audio.manifest import PROBE
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import versions

ROW_GROUP = 10_000  # rows of a plan's tables that are read together


@dataclass(frozen=True)
class Part:
    """A range of whole recordings, first <= recording_id < end, of one increment; some may be dropped."""

    number: int
    increment: int
    first: int
    end: int
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Increment:
    """What was planned at once. first_…: ids it begins with; parts: first recording of each of its parts."""

    first_recording: int
    recordings: int
    playable: int
    hours: float
    first_item: int
    items: int
    first_bundle: int
    bundles: int
    first_part: int
    parts: tuple[int, ...]
    containers: dict[str, int]
    dropped: int
    made: str


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan in its folder. columns: names and types of a manifest's own; dropped: ids, ascending."""

    out: Output
    id: str
    identity: dict[str, Any]
    columns: dict[str, str]
    increments: tuple[Increment, ...]
    dropped: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def total(self, name: str) -> float:
        """Sum of a number over the increments: recordings, playable, hours, items, bundles."""
        return sum(getattr(increment, name) for increment in self.increments)

    @property
    def containers(self) -> dict[str, int]:
        """Number of playable recordings by container."""
        found: dict[str, int] = {}
        for increment in self.increments:
            for name, number in increment.containers.items():
                found[name] = found.get(name, 0) + number
        return dict(sorted(found.items()))

    def parts(self) -> list[Part]:
        """Every part, in order."""
        found = []
        for number, increment in enumerate(self.increments):
            end = increment.first_recording + increment.recordings
            for place, (first, after) in enumerate(pairwise((*increment.parts, end))):
                low, high = np.searchsorted(self.dropped, [first, after])
                dropped = tuple(self.dropped[low:high].tolist())
                found.append(Part(increment.first_part + place, number, first, after, dropped))
        return found

    def files(self, name: str, increments: Sequence[int]) -> list[str]:
        """Paths of the tables of this name, recordings or bundles, of increments that have rows of it."""
        some = [n for n in increments if getattr(self.increments[n], name)]
        return [self.out.path(plan_file(n, name)) for n in some]


@dataclass(frozen=True, eq=False)
class Changes:
    """How a listing differs from a plan.

    new, changed: rows of the listing; outdated: planned ids of the changed ones; gone: planned ids.
    """

    new: NDArray[np.int64]
    changed: NDArray[np.int64]
    outdated: NDArray[np.int64]
    gone: NDArray[np.int64]

    def grows(self, prune: bool) -> bool:
        """Whether the plan is to be extended."""
        return bool(len(self.new) + len(self.changed) + (len(self.gone) if prune else 0))


def read_plan(config: PlanConfig, out: Output) -> Plan | None:
    """The output folder's plan, None where there is none yet.

    InputError where it is another archive's, or of another version.
    """
    if out.read_json(PLAN) is None:
        refuse_strangers(out)
        return None
    plan = open_plan(out)
    then, now = plan.identity, _identity(config)
    if changed := [f"{key} {then.get(key)} → {now[key]}" for key in now if then.get(key) != now[key]]:
        raise InputError(
            f"{out.uri} holds the plan of another archive ({', '.join(changed)}); "
            "use another --output or --overwrite"
        )
    return plan


def open_plan(out: Output) -> Plan:
    """The plan in a folder; InputError where there is none of this version."""
    content = out.read_json(PLAN) or {}
    try:
        increments = tuple(Increment(**row | {"parts": tuple(row["parts"])}) for row in content["increments"])
        plan = Plan(out, content["id"], content["identity"], content["columns"], increments)
    except (KeyError, TypeError):
        raise InputError(
            f"{out.uri}/{PLAN} is not of this version; use another --output or --overwrite"
        ) from None
    dropped = [
        out.read_table(plan_file(n, "dropped"))["recording_id"].to_numpy()
        for n, increment in enumerate(increments)
        if increment.dropped
    ]
    ids = np.sort(np.concatenate([np.empty(0, np.int64), *dropped]))
    return Plan(out, plan.id, plan.identity, plan.columns, increments, ids)


def compare(plan: Plan | None, listing: pa.Table) -> Changes:
    """How an archive has changed since it was planned; everything is new where there is no plan."""
    keys, listed = (listing[name].to_numpy() for name in (KEY, VERSION))
    empty = np.empty(0, np.int64)
    known, version, ids = empty, empty, empty
    if plan is not None and plan.total("recordings"):
        names = [KEY, VERSION, "recording_id"]
        tables = [
            plan.out.read_table(plan_file(n, "recordings"), names)
            for n, increment in enumerate(plan.increments)
            if increment.recordings
        ]
        planned = pa.concat_tables(tables)
        kept = ~np.isin(planned["recording_id"].to_numpy(), plan.dropped)
        known, version, ids = (planned[name].to_numpy()[kept] for name in names)
    order = np.argsort(known)
    place = np.searchsorted(known, keys, sorter=order)
    place = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(keys), np.int64)
    found = known[place] == keys if len(known) else np.zeros(len(keys), bool)
    differs = np.zeros(len(keys), bool)
    differs[found] = version[place[found]] != listed[found]
    gone = np.setdiff1d(ids, ids[place[found]]) if len(known) else empty
    outdated = ids[place[differs]] if len(known) else empty
    return Changes(np.flatnonzero(~found), np.flatnonzero(differs), outdated, gone)


def extend_plan(
    config: PlanConfig, out: Output, listing: pa.Table, plan: Plan | None, changes: Changes
) -> Plan:
    """Probe what is new or changed, cut it into items and write it as an increment; returns the whole plan.

    InputError where an archive that is planned for the first time holds nothing that could be audio.
    """
    before = plan or Plan(out, uuid.uuid4().hex, _identity(config), _own_types(listing), ())
    number = len(before.increments)
    rows = listing.take(pa.array(np.sort(np.concatenate([changes.new, changes.changed]))))
    last = before.increments[-1] if before.increments else None
    first = last.first_recording + last.recordings if last else 0
    rows = _with_columns_of(before, rows)
    rows = rows.add_column(0, "recording_id", pa.array(np.arange(first, first + len(rows))))
    headers = probe_all(rows.select(["recording_id", "uri"]))
    for name in PROBED.names[1:]:
        rows = rows.append_column(f"{PROBE}{name}", headers[name])
    playable = rows.filter(rows["probe_reason"].is_null())
    if plan is None and not len(playable) and set(headers["reason"].to_pylist()) == {"not_a_recording"}:
        raise InputError(f"{redact(config.input)}: no audio in it (tried {len(headers)} files)")
    first_part = last.first_part + len(last.parts) if last else 0
    part = cut_parts(rows)
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    rows = rows.append_column("plan_part", pa.array(first_part + part))
    first_bundle = last.first_bundle + last.bundles if last else 0
    first_item = last.first_item + last.items if last else 0
    tables, seconds, items = [BUNDLE.empty_table()], 0.0, 0
    bundled = bundle_items(rows, config.item_s, first_bundle, first_item)
    while piece := list(islice(bundled, 10_000)):  # millions of items as Python objects would fill a machine
        lengths = [item["end_s"] - item["start_s"] for bundle in piece for item in bundle["items"]]
        seconds, items = seconds + sum(lengths), items + len(lengths)
        tables.append(pa.Table.from_pylist(piece, schema=BUNDLE))
    bundles = pa.concat_tables(tables)
    dropped = np.sort(np.concatenate([changes.outdated, changes.gone if config.prune else changes.gone[:0]]))
    containers = playable.group_by("probe_container").aggregate([("recording_id", "count")])
    increment = Increment(
        first_recording=first,
        recordings=len(rows),
        playable=len(playable),
        hours=seconds / 3600,
        first_item=first_item,
        items=items,
        first_bundle=first_bundle,
        bundles=len(bundles),
        first_part=first_part,
        parts=tuple((first + starts).tolist()),
        containers=dict(zip(*(column.to_pylist() for column in containers.columns), strict=True)),
        dropped=len(dropped),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    increments = (*before.increments, increment)
    for name, table in (("recordings", rows), ("bundles", bundles)):
        out.write_table(plan_file(number, name), table, row_group_size=ROW_GROUP)
    if len(dropped):
        out.write_table(plan_file(number, "dropped"), pa.table({"recording_id": dropped}))
    content = {
        "versions": versions(),
        "id": before.id,
        "identity": before.identity,
        "columns": before.columns,
    }
    # last: where it names an increment, the tables are whole
    out.write_json(PLAN, content | {"increments": [asdict(one) for one in increments]})
    ids = np.sort(np.concatenate([before.dropped, dropped]))
    return Plan(out, before.id, before.identity, before.columns, increments, ids)


def _identity(config: PlanConfig) -> dict[str, Any]:
    return {"input": redact(config.input), "item_s": config.item_s}


def _own_types(listing: pa.Table) -> dict[str, str]:
    return {name: str(listing.schema.field(name).type) for name in own_columns(listing)}


def _with_columns_of(plan: Plan, rows: pa.Table) -> pa.Table:
    """Rows of a listing, a manifest's columns as they were planned first; InputError for other columns."""
    now = _own_types(rows)
    if set(now) != set(plan.columns):
        differs = ", ".join(sorted(set(now) ^ set(plan.columns)))
        raise InputError(
            f"{plan.identity['input']} has other columns than when it was planned ({differs}); "
            "use another --output or --overwrite"
        )
    for name, kind in plan.columns.items():
        if now[name] == kind:
            continue
        before = plan.out.dataset(plan_file(0, "recordings")).schema.field(name).type
        try:
            rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(before))
        except pa.ArrowException:
            raise InputError(
                f"{plan.identity['input']}: column {name} holds {now[name]}, and {kind} when it was planned; "
                "use another --output or --overwrite"
            ) from None
    return rows
