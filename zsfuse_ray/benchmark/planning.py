"""Rate and memory of planning an archive of many recordings, of which only the listing exists.

It runs in a separate process (``python -m zsfuse_ray.benchmark.planning``), whose memory is that of a driver.
Headers are made up: reading them is the work of tasks, which hold a few at a time.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from zsfuse_ray.archive.growth import RECORDINGS_AT_ONCE, add_increment, compare, numbered
from zsfuse_ray.archive.label import peak_memory_mb
from zsfuse_ray.archive.listing import identified, listed
from zsfuse_ray.archive.plan import Plan, open_plan
from zsfuse_ray.archive.probing import PROBED, with_headers
from zsfuse_ray.benchmark.figures import Figure
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.runs.folder import Output

ITEM_S = 300.0
LONGEST_S = 1200.0  # recordings are up to this long: 2.4 items on average


def planning(config: BenchmarkConfig) -> list[Figure]:
    """Plan random recordings and compare the same listing with the plan, as a second command does."""
    from zsfuse_ray.benchmark.throughput import environment  # lazy: imports torch, which a driver does not

    figures = []
    for number in sorted(set(config.plan_recordings)):
        with tempfile.TemporaryDirectory(dir=config.scratch or None) as folder:
            command = [sys.executable, "-m", __name__, str(number), folder]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        what = f"plan {number:,} recordings"
        figures += [
            Figure(what, (number / found["plan_s"],), "recordings per second", "without reading headers"),
            Figure(
                f"{what}: peak memory of the driver",
                (found["peak_mb"],),
                "MB",
                f"{found['start_mb']:.0f} MB of it before",
            ),
            Figure(f"{what}: compare them with the plan again", (found["compare_s"],), "s"),
            Figure(f"{what}: size of the plan", (found["plan_mb"],), "MB", f"{found['items']:,} items"),
        ]
    return figures


def files(number: int) -> Iterator[dict[str, Any]]:
    """The files of a large bucket."""
    for n in range(number):
        name = f"s3://bucket-of-podcasts/shows/{n % 1000:03}/{n // 1000:07}-episode.mp3"
        yield {"uri": name, "size": 1_000_000 + n, "version": f'"{n:032x}"'}


def headers(rows: pa.Table) -> pa.Table:
    """Made-up PROBED rows of recordings."""
    n = len(rows)
    seconds = np.random.default_rng(n).uniform(1, LONGEST_S, n)
    columns: dict[str, Any] = {field.name: pa.nulls(n, field.type) for field in PROBED}
    columns |= {"recording_id": rows["recording_id"], "duration_s": seconds, "exact": np.ones(n, bool)}
    return pa.table({**columns, "container": ["mp3"] * n}, schema=PROBED)


def measure(number: int, folder: str) -> dict[str, float]:
    """Plan in this process."""
    start_mb, started, out = peak_memory_mb(), time.perf_counter(), Output.open(folder)
    table, _ = listed(files(number))
    listing = identified(table.drop_columns(["version"]), table["version"])
    changes, plan = compare(None, listing), Plan(out, "random", {}, {}, ())
    for start in range(0, number, RECORDINGS_AT_ONCE):
        rows = numbered(plan, listing.take(pa.array(changes.new[start : start + RECORDINGS_AT_ONCE])))
        plan = add_increment(plan, with_headers(rows, headers(rows)), ITEM_S, changes.gone)
    plan_s, started = time.perf_counter() - started, time.perf_counter()
    again = compare(open_plan(out), listing)
    assert not again.grows(True)
    size = sum(out.fs.get_file_info(path).size for path in out.files("plan"))
    found = {"plan_s": plan_s, "compare_s": time.perf_counter() - started, "plan_mb": size / 1e6}
    return found | {"start_mb": start_mb, "peak_mb": peak_memory_mb(), "items": plan.total("items")}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2])))
