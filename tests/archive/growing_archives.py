"""Small archives of real files, and their plans."""

from pathlib import Path

import numpy as np
import soundfile

from zsfuse_ray.archive.growth import Changes, compare, extend_plan
from zsfuse_ray.archive.layout import plan_file
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.plan import Plan, read_plan
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.runs.folder import Output

RATE = 8000


def write_wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * RATE), np.int16), RATE)


def config(archive: Path, folder: Path, **values) -> PlanConfig:
    return PlanConfig(**({"input": str(archive), "output": str(folder), "item_s": 20.0} | values))


def grow(options: PlanConfig) -> tuple[Plan, Changes]:
    """Plan an archive as ``zsfuse plan`` does; returns the plan and the changes."""
    out = Output.open(options.output)
    listing = list_archive(options.input)
    there = read_plan(options, out)
    changes = compare(there, listing)
    if there is not None and not changes.grows(options.prune):
        return there, changes
    return extend_plan(options, out, listing, there, changes), changes


def content(folder: Path) -> dict[str, bytes]:
    """Content of all files of the plan's increments, by name."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}
    assert found
    return found


def rows_of(plan: Plan, name: str) -> list[dict]:
    return [
        row
        for n in range(len(plan.increments))
        for row in plan.out.read_table(plan_file(n, name)).to_pylist()
    ]
