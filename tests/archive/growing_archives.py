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


def grow(asked: PlanConfig) -> tuple[Plan, Changes]:
    """What ``zsfuse plan`` does with an archive; the plan after it and what had changed."""
    out = Output.open(asked.output)
    listing = list_archive(asked.input)
    there = read_plan(asked, out)
    changes = compare(there, listing)
    if there is not None and not changes.grows(asked.prune):
        return there, changes
    return extend_plan(asked, out, listing, there, changes), changes


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the plan's increments."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}
    assert found
    return found


def rows_of(plan: Plan, name: str) -> list[dict]:
    return [
        row
        for n in range(len(plan.increments))
        for row in plan.out.read_table(plan_file(n, name)).to_pylist()
    ]
