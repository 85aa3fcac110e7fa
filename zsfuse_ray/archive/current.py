"""What an output folder holds when a command starts, and how the archive has changed since its plan."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from zsfuse_ray.archive.growth import Changes, compare
from zsfuse_ray.archive.label import recordings_to_try_again
from zsfuse_ray.archive.layout import RUN
from zsfuse_ray.archive.limit import first_hours, limit_of
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.passes import Encoded, ToEncode, begun_passes, lacking, read_passes
from zsfuse_ray.archive.plan import Plan, read_plan
from zsfuse_ray.archive.wanted import encoding_options
from zsfuse_ray.config.score import RunConfig
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import refuse_other_config


@dataclass(frozen=True, eq=False)
class Folder:
    """Content of an output folder when a command starts, and changes of the archive since its plan."""

    out: Output
    listing: pa.Table
    plan: Plan | None
    changes: Changes
    encoded: Encoded | None
    run: dict[str, Any] | None

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Facts of the models in encoded/, by their names there."""
        return self.encoded.models if self.encoded else {}

    @property
    def increments(self) -> int:
        """Number of increments of the plan."""
        return len(self.plan.increments) if self.plan else 0

    @property
    def is_labelled(self) -> bool:
        """Whether score has labelled this folder, or started to."""
        return self.run is not None and bool(self.run["config"].get("labels"))

    def is_current(self, digest: str) -> bool:
        """Whether a finished run with this digest has written tables of the whole plan."""
        run, plan = self.run, self.plan
        if run is None or plan is None or run.get("status") != "complete":
            return False
        return run.get("digest") == digest and run.get("increments") == len(plan.increments)

    def lacks(self, wanted: Mapping[str, ToEncode], increments: Iterable[int], prune: bool) -> bool:
        """Whether something must be encoded: in these increments, or new to the archive."""
        if self.plan is None or self.encoded is None or len(self.changes.new) or len(self.changes.changed):
            return True
        if prune and len(self.changes.gone) and any(one.dropped for one in self.encoded.passes):
            return True
        some = [n for n in increments if self.plan.increments[n].bundles]
        return bool(lacking(wanted, self.encoded, some) or begun_passes(wanted, self.encoded, some))


def look_at(config: RunConfig) -> Folder:
    """Read the archive's listing and the output folder; InputError if the folder holds something else.

    With --dry-run nothing of a killed command is tidied up.
    """
    out = Output.open(config.output)
    listing = list_archive(config.input, config.allow_hosts, config.speakers)
    if config.overwrite:
        return Folder(out, listing, None, compare(None, listing), None, None)
    run = out.read_json(RUN)
    if run is not None and run.get("config", {}).get("embeddings") is not None:
        refuse_other_config(out, run["config"], {"embeddings": None})
    there, encoded = read_plan(config, out, tidies=not config.dry_run), read_passes(out)
    if encoded is not None:
        refuse_other_config(out, encoded.config, encoding_options(config))
    again = recordings_to_try_again(out, there and first_hours(there, limit_of(run)), run)
    return Folder(out, listing, there, compare(there, listing, again), encoded, run)
