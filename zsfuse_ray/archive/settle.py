"""What of a pass is really written: its whole files count, whatever else lies among them does not.

A full disk, a killed machine or another program can leave files in encoded/ that are cut off or not ours, and
tasks of a killed run can write a bundle that the next run writes too. So the rows themselves decide which
bundles are done: Ray Data's checkpoint is written anew from them before it reads it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from zsfuse_ray.archive.each import each_part
from zsfuse_ray.archive.passes import Encoded, Pass, read_passes
from zsfuse_ray.archive.plan import Part, Plan
from zsfuse_ray.archive.schemas import encoded_schema
from zsfuse_ray.archive.whole import DamagedPass, is_cut_off, part_files, planned_bundles, read_whole
from zsfuse_ray.runs.folder import Output

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def encodes_damaged_again(verb: Callable[P, T]) -> Callable[P, T]:
    """Decorate a verb that labels what it encodes: it encodes again, once, what was damaged since."""

    @wraps(verb)
    def mended(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return verb(*arguments, **options)
        except Exception as error:  # from a task it is the cause of Ray's error
            damage = getattr(error, "cause", error)
            if not isinstance(damage, DamagedPass):
                raise
        config: Any = arguments[0]
        encoded = read_passes(Output.open(config.output))
        assert encoded is not None
        log.warning(
            f"{encoded.out.uri}/encoded/{damage.folder} has damaged files: encoding their audio again"
        )
        reopen(encoded, damage)
        again: Any = verb
        return again(replace(config, overwrite=False), *arguments[1:], **options)

    return mended


def settle(plan: Plan, one: Pass, own_ray: bool) -> int:
    """Write the checkpoint of a pass from its rows; returns the number of finished bundles.

    Only while nothing writes to the pass: files that are cut off are deleted.
    """
    plan.out.delete(one.checkpoint)
    parts = [part for part in plan.parts() if part.increment in one.increments]
    return sum(each_part(settle_part, _PassOfPlan(plan, one), parts, own_ray))


@dataclass(frozen=True, eq=False)
class _PassOfPlan:
    plan: Plan
    one: Pass


def settle_part(of: _PassOfPlan, part: Part) -> int:
    """Settle one part; returns the number of its finished bundles."""
    out, one = of.plan.out, of.one
    planned = planned_bundles(out, part)
    names = [name for name in encoded_schema(one.models).names if name != "part"]
    found = [np.empty(0, np.int64)]
    for path in part_files(out, one, part.number):
        table = read_whole(out, path, ["bundle_id"], names)
        if table is not None:
            found.append(table["bundle_id"].to_numpy())
        elif is_cut_off(out, path):
            out.fs.delete_file(path)
    done = np.intersect1d(np.concatenate(found), planned)
    if len(done):
        out.write_table(f"{one.checkpoint}/part-{part.number:06}.parquet", pa.table({"bundle_id": done}))
    return len(done)


def reopen(encoded: Encoded, damage: DamagedPass) -> None:
    """Delete the files of a damaged part that cannot be read, and record its pass as incomplete."""
    (one,) = (one for one in encoded.passes if one.folder == damage.folder)
    names = [name for name in encoded_schema(one.models).names if name != "part"]
    for path in part_files(encoded.out, one, damage.part):
        if read_whole(encoded.out, path, names) is None:
            encoded.out.fs.delete_file(path)
    encoded.with_pass(replace(one, complete=False))
