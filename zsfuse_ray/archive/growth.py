"""Changes of an archive since it was planned, and the increment of the plan for them."""

import logging
import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.bundles import TURNS, bundle_items, cut_parts
from zsfuse_ray.archive.layout import PLAN, plan_file
from zsfuse_ray.archive.listing import KEY, VERSION, own_columns
from zsfuse_ray.archive.plan import ROW_GROUP, Increment, Plan, plan_identity
from zsfuse_ray.archive.probing import check_root, probe_all, with_headers
from zsfuse_ray.archive.schemas import BUNDLE, BUNDLE_WITH_TURNS
from zsfuse_ray.audio.outages import PASSING
from zsfuse_ray.config.score import ArchiveOptions
from zsfuse_ray.errors import InputError, redact, redact_uri
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import versions
from zsfuse_ray.stores import in_object_store

log = logging.getLogger(__name__)

RECORDINGS_AT_ONCE = 100_000  # recordings in memory with their headers: those of one increment


@dataclass(frozen=True, eq=False)
class Changes:
    """Differences between a listing and a plan.

    new, changed: rows of the listing; outdated: planned ids of the changed ones; gone: planned ids that are
    not listed. failed: those of the changed ones that only failed and are to be tried again.
    """

    new: NDArray[np.int64]
    changed: NDArray[np.int64]
    outdated: NDArray[np.int64]
    gone: NDArray[np.int64]
    failed: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def again(self) -> int:
        """Number of recordings that only failed."""
        return len(self.failed)

    def grows(self, prune: bool) -> bool:
        """Whether the plan needs a new increment."""
        return self.increments(prune) > 0

    def increments(self, prune: bool) -> int:
        """How many increments `extend_plan` adds."""
        rows = len(self.new) + len(self.changed)
        return math.ceil(rows / RECORDINGS_AT_ONCE) or int(prune and len(self.gone) > 0)


def compare(plan: Plan | None, listing: pa.Table, again: Sequence[int] = ()) -> Changes:
    """Changes of an archive since it was planned; without a plan everything is new.

    again: planned ids of recordings to be tried again, as if they had changed.
    """
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
    planned_already = known[place] == keys if len(known) else np.zeros(len(keys), bool)
    differs = np.zeros(len(keys), bool)
    differs[planned_already] = version[place[planned_already]] != listed[planned_already]
    failed = np.zeros(len(keys), bool)
    failed[planned_already] = np.isin(ids[place[planned_already]], np.array(again, np.int64))
    failed &= ~differs
    differs |= failed
    gone = np.setdiff1d(ids, ids[place[planned_already]]) if len(known) else empty
    outdated = ids[place[differs]] if len(known) else empty
    return Changes(
        np.flatnonzero(~planned_already), np.flatnonzero(differs), outdated, gone, np.flatnonzero(failed)
    )


def extend_plan(
    config: ArchiveOptions, out: Output, listing: pa.Table, plan: Plan | None, changes: Changes
) -> Plan:
    """Probe new and changed recordings, cut them into items and write them; returns the whole plan.

    Each RECORDINGS_AT_ONCE are an increment, so that memory is bounded, and a killed command has lost only
    the headers of its last increment. What is tried again and fails again is left as it is. InputError if a
    new archive contains no audio.
    """
    before = plan or Plan(out, uuid.uuid4().hex, plan_identity(config), _own_types(listing), ())
    wanted = np.sort(np.concatenate([changes.new, changes.changed]))
    gone = changes.gone if config.prune else changes.gone[:0]
    for start in range(0, max(len(wanted), 1), RECORDINGS_AT_ONCE):
        some = wanted[start : start + RECORDINGS_AT_ONCE]
        rows = numbered(before, _with_columns_of(before, listing.take(pa.array(some))))
        headers = probe_all(rows.select(["recording_id", "uri"]), config.allow_hosts)
        check_root(config.input, headers)
        reasons = set(headers["reason"].to_pylist())
        if not before.increments and reasons and reasons <= {"not_a_recording", "not_a_file"}:
            raise InputError(f"{redact(config.input)}: no audio in it (tried {len(headers)} files)")
        fails = np.isin(some, changes.failed) & np.isin(headers["reason"].to_pylist(), PASSING)
        if fails.any():
            some, rows, headers = (
                some[~fails],
                rows.filter(pa.array(~fails)),
                headers.filter(pa.array(~fails)),
            )
            rows = numbered(before, rows.drop_columns(["recording_id"]))
            if not len(some) + len(gone):
                continue
        dropped = np.concatenate([changes.outdated[np.isin(changes.changed, some)], gone])
        gone = gone[:0]
        before = add_increment(before, with_headers(rows, headers), config.item_s, np.sort(dropped))
    return before


def numbered(plan: Plan, rows: pa.Table) -> pa.Table:
    """Rows of a listing with the ids that continue those of the plan."""
    first = int(plan.total("recordings"))
    return rows.add_column(0, "recording_id", pa.array(np.arange(first, first + len(rows))))


def add_increment(plan: Plan, rows: pa.Table, item_s: float, dropped: NDArray[np.int64]) -> Plan:
    """Cut probed recordings, whose ids continue those of the plan, and write them as its next increment.

    dropped: ids of recordings that the increment drops, ascending.
    """
    out, number = plan.out, len(plan.increments)
    first = int(plan.total("recordings"))
    last = plan.increments[-1] if plan.increments else None
    playable = rows.filter(rows["probe_reason"].is_null())
    first_part = last.first_part + len(last.parts) if last else 0
    part = cut_parts(rows)
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    rows = rows.append_column("plan_part", pa.array(first_part + part))
    first_bundle, first_item = int(plan.total("bundles")), int(plan.total("items"))
    # tasks fetch recordings by the addresses in these tables, which are the only place for their secrets
    is_secret = any(redact_uri(uri) != uri for uri in rows["uri"].to_pylist())
    if is_secret:
        if in_object_store(out.uri):
            log.warning(
                f"warning: {out.uri}/plan holds passwords or signatures of the archive's addresses, which "
                "fetching needs; let nobody else read it"
            )
        out.keep_private("plan")  # before they are written
    if not plan.increments:  # claim the folder before writing tables, so that a killed command can resume
        _write_plan(plan, ())
    schema = BUNDLE_WITH_TURNS if TURNS in rows.column_names else BUNDLE
    seconds, items, bundles = 0.0, 0, 0

    def pieces() -> Iterator[pa.Table]:  # millions of items as Python objects would fill the memory
        nonlocal seconds, items, bundles
        bundled = bundle_items(rows, item_s, first_bundle, first_item)
        while piece := list(islice(bundled, ROW_GROUP)):
            lengths = [item["end_s"] - item["start_s"] for bundle in piece for item in bundle["items"]]
            seconds, items, bundles = seconds + sum(lengths), items + len(lengths), bundles + len(piece)
            yield pa.Table.from_pylist(piece, schema=schema)

    out.write_table(plan_file(number, "recordings"), rows, row_group_size=ROW_GROUP)
    out.write_tables(plan_file(number, "bundles"), schema, pieces())
    containers = playable.group_by("probe_container").aggregate([("recording_id", "count")])
    increment = Increment(
        first_recording=first,
        recordings=len(rows),
        playable=len(playable),
        hours=seconds / 3600,
        first_item=first_item,
        items=items,
        first_bundle=first_bundle,
        bundles=bundles,
        first_part=first_part,
        parts=tuple((first + starts).tolist()),
        containers=dict(zip(*(column.to_pylist() for column in containers.columns), strict=True)),
        dropped=len(dropped),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    increments = (*plan.increments, increment)
    if len(dropped):
        out.write_table(plan_file(number, "dropped"), pa.table({"recording_id": dropped}))
    _write_plan(plan, increments)  # last: the tables of a recorded increment are complete
    if is_secret:
        out.keep_private("plan")
    ids = np.sort(np.concatenate([plan.dropped, dropped]))
    return Plan(out, plan.id, plan.identity, plan.columns, increments, ids)


def _write_plan(plan: Plan, increments: Sequence[Increment]) -> None:
    content = {"versions": versions(), "id": plan.id, "config": plan.identity, "columns": plan.columns}
    plan.out.write_json(PLAN, content | {"increments": [asdict(one) for one in increments]})


def _own_types(listing: pa.Table) -> dict[str, str]:
    return {name: str(listing.schema.field(name).type) for name in own_columns(listing)}


def _with_columns_of(plan: Plan, rows: pa.Table) -> pa.Table:
    """Rows of a listing, a manifest's columns cast to their planned types; InputError for other columns."""
    now = _own_types(rows)
    if set(now) != set(plan.columns):
        differs = ", ".join(sorted(set(now) ^ set(plan.columns)))
        raise InputError(
            f"{plan.identity['input']}: its columns differ from the plan ({differs}); "
            "use another --output or --overwrite"
        )
    for name, kind in plan.columns.items():
        if now[name] == kind:
            continue
        before = plan.out.schema(plan_file(0, "recordings")).field(name).type
        try:
            rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(before))
        except pa.ArrowException:
            raise InputError(
                f"{plan.identity['input']}: column {name} is {now[name]} but {kind} in the plan; "
                "use another --output or --overwrite"
            ) from None
    return rows
