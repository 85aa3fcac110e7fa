"""The plan of an archive, which grows with it: recordings cut into items, bundles and parts.

Each time an archive has new or changed recordings an *increment* is added: tables of its recordings and
bundles, whose ids continue the earlier ones, and the ids of recordings that it drops. Earlier increments are
never changed, so earlier encodings and labels remain valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.archive.layout import OURS, PLAN, clear_unfinished_plan, has_lost_its_plan, plan_file
from zsfuse_ray.config.score import ArchiveOptions
from zsfuse_ray.errors import InputError, redact
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import claim

ROW_GROUP = 10_000  # rows per row group of a plan's tables


@dataclass(frozen=True)
class Part:
    """A range of whole recordings, first <= recording_id < end, of one increment; some may be dropped.

    bundle_end: the bundles from this id on are none of this run, see `archive.limit`.
    """

    number: int
    increment: int
    first: int
    end: int
    dropped: tuple[int, ...]
    bundle_end: int | None = None


@dataclass(frozen=True)
class Increment:
    """One extension of the plan. first_…: its first ids; parts: first recording of each of its parts."""

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
    """A plan in its folder. columns: names and types of a manifest's own columns; dropped: ids, ascending.

    cut: increments with more bundles in their tables than this view of the plan has, see `archive.limit`.
    """

    out: Output
    id: str
    identity: dict[str, Any]
    columns: dict[str, str]
    increments: tuple[Increment, ...]
    dropped: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    cut: tuple[int, ...] = ()

    def total(self, name: str) -> float:
        """Sum of a field over the increments: recordings, playable, hours, items or bundles."""
        return sum(getattr(increment, name) for increment in self.increments)

    @property
    def bundle_end(self) -> int:
        """The first bundle id after its last one."""
        return max((one.first_bundle + one.bundles for one in self.increments if one.bundles), default=0)

    @property
    def containers(self) -> dict[str, int]:
        """Number of playable recordings by container."""
        numbers: dict[str, int] = {}
        for increment in self.increments:
            for name, number in increment.containers.items():
                numbers[name] = numbers.get(name, 0) + number
        return dict(sorted(numbers.items()))

    def parts(self) -> list[Part]:
        """Every part, in order."""
        parts = []
        for number, increment in enumerate(self.increments):
            end = increment.first_recording + increment.recordings
            bundle_end = self.bundle_end if number in self.cut else None
            for place, (first, after) in enumerate(pairwise((*increment.parts, end))):
                low, high = np.searchsorted(self.dropped, [first, after])
                dropped = tuple(self.dropped[low:high].tolist())
                parts.append(Part(increment.first_part + place, number, first, after, dropped, bundle_end))
        return parts

    def files(self, name: str, increments: Sequence[int]) -> list[str]:
        """Names of the tables of this name, recordings or bundles, of the increments with rows in it."""
        return [plan_file(n, name) for n in increments if getattr(self.increments[n], name)]


def read_plan(config: ArchiveOptions, out: Output, tidies: bool = True) -> Plan | None:
    """The output folder's plan, None if there is none yet. tidies: delete what a killed command left of one.

    InputError if it is of another archive, or another version wrote it.
    """
    plan = open_plan(out) if out.read_json(PLAN) is not None else None
    if plan is None:
        if has_lost_its_plan(out):
            raise InputError(f"{out.uri}/{PLAN} is missing; use another --output or --overwrite")
        if not tidies:
            return None
        clear_unfinished_plan(out)
    claim(out, record=PLAN, what="run", ours=OURS, decides=plan_identity(config), overwrite=False)
    return plan


def open_plan(out: Output) -> Plan:
    """The plan in a folder; InputError if there is none that this version can read."""
    content = out.read_json(PLAN) or {}
    try:
        increments = tuple(Increment(**row | {"parts": tuple(row["parts"])}) for row in content["increments"])
        plan = Plan(out, content["id"], content["config"], content["columns"], increments)
    except (KeyError, TypeError):
        raise InputError(
            f"{out.uri}/{PLAN} was written by another version; use another --output or --overwrite"
        ) from None
    dropped = [
        out.read_table(plan_file(n, "dropped"))["recording_id"].to_numpy()
        for n, increment in enumerate(increments)
        if increment.dropped
    ]
    ids = np.sort(np.concatenate([np.empty(0, np.int64), *dropped]))
    return Plan(out, plan.id, plan.identity, plan.columns, increments, ids)


def plan_identity(config: ArchiveOptions) -> dict[str, Any]:
    """The options that a plan depends on; a plan in the output folder must have the same."""
    speakers = "given" if config.speakers else None  # not which: a recording whose turns change has changed
    return {"input": redact(config.input), "item_s": config.item_s, "speakers": speakers}
