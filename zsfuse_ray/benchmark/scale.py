"""Throughput of a pass over many GPUs, with stand-ins that sleep as long as a GPU would compute.

The GPUs are logical, so this measures what Ray, the checkpoint and the files of encoded/ cost for an item,
and how many items a second one driver hands out; not a network, as no audio is moved. Each number runs in
a process with its own Ray (``python -m zsfuse_ray.benchmark.scale``).
"""

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext

from zsfuse_ray.archive.growth import add_increment, numbered
from zsfuse_ray.archive.listing import identified, listed
from zsfuse_ray.archive.passes import Computed, Encoded, ToEncode, add_pass
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.probing import PROBED, with_headers
from zsfuse_ray.archive.schemas import DECODED, encoded_schema
from zsfuse_ray.archive.stream import StandIns, run_pass
from zsfuse_ray.benchmark.figures import Figure
from zsfuse_ray.benchmark.planning import files
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.score import RunConfig
from zsfuse_ray.models.catalog import parse_spec
from zsfuse_ray.runs import cluster, tally
from zsfuse_ray.runs.folder import Output

ITEMS_A_GPU = 40
ITEMS_AT_ONCE = 3000  # of the run that does not sleep
AS_MANY = 256  # GPUs that the figures are extrapolated to
ITEM_S = 300.0


def scale(config: BenchmarkConfig) -> list[Figure]:
    """Items per second against the ideal for each of ``scale_gpus``, and the most that a driver hands out."""
    figures, overhead = [], 0.0
    for gpus in config.scale_gpus:
        found = _in_process(config, gpus, gpus * ITEMS_A_GPU, config.scale_item_s)
        ideal = gpus / config.scale_item_s
        overhead = 1000 * (gpus / found["rate"] - config.scale_item_s)
        note = f"{found['rate'] / ideal:.0%} of the ideal {ideal:.3g}"
        figures += [
            Figure(f"{gpus} logical GPUs", (found["rate"],), "items per second", note),
            Figure(f"{gpus} logical GPUs: overhead of an item", (overhead,), "ms of its GPU"),
        ]
    most = _in_process(config, max(config.scale_gpus), ITEMS_AT_ONCE, 0.0)["rate"]
    fed = most * config.scale_item_s
    share = min(1.0, fed / AS_MANY, config.scale_item_s / (config.scale_item_s + overhead / 1000))
    return [
        *figures,
        Figure("items that are not computed at all", (most,), "items per second", "one driver, here"),
        Figure("EXTRAPOLATED: GPUs that such a driver keeps busy", (fed,), "GPUs"),
        Figure(f"EXTRAPOLATED: {AS_MANY} GPUs", (100 * share,), "% of the ideal", "the lower of both limits"),
    ]


def _in_process(config: BenchmarkConfig, gpus: int, items: int, item_s: float) -> dict[str, float]:
    from zsfuse_ray.benchmark.throughput import environment  # lazy: imports torch, which nothing here needs

    with tempfile.TemporaryDirectory(dir=config.scratch or None) as folder:
        command = [sys.executable, "-m", __name__, str(gpus), str(items), str(item_s), folder]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the pass on {gpus} logical GPUs failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def decode(batch: pa.Table, **others: Any) -> pa.Table:
    """BUNDLE rows → DECODED rows without segments."""
    rows = []
    for bundle in batch.to_pylist():
        items = [
            {
                "item_id": one["item_id"],
                "recording_id": one["recording_id"],
                "planned_s": ITEM_S,
                "audio_s": ITEM_S,
            }
            for one in bundle["items"]
        ]
        place = {"bundle_id": bundle["bundle_id"], "part": bundle["part"]}
        rows.append(place | {"items": items, "segments": [], "pcm": b""})
    return pa.Table.from_pylist(rows, schema=DECODED)


class Sleeps:
    """In place of an encoder; encoder_inputs is the time at which it was done with a row, in ns."""

    item_s = 0.0

    def __init__(self, every: tuple[str, ...], **others: Any) -> None:
        self.schema = encoded_schema(every)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = []
        for row in batch.to_pylist():
            time.sleep(self.item_s)
            rows.append(dict.fromkeys(self.schema.names) | row | {"encoder_inputs": time.time_ns()})
        return pa.Table.from_pylist([{k: row[k] for k in self.schema.names} for row in rows], self.schema)


def sleeping(item_s: float) -> type[Sleeps]:
    """A class of actors that take this long for an item."""
    return type("SleepsLonger", (Sleeps,), {"item_s": item_s})


def measure(gpus: int, items: int, item_s: float, folder: str) -> dict[str, float]:
    """One pass over recordings of one item each, on a Ray with this many logical GPUs."""
    out = Output.open(folder)
    table, _ = listed(files(items))
    rows = numbered(Plan(out, "", {}, {}, ()), identified(table.drop_columns(["version"]), table["version"]))
    columns: dict[str, Any] = {field.name: pa.nulls(items, field.type) for field in PROBED}
    columns |= {"recording_id": rows["recording_id"], "duration_s": np.full(items, ITEM_S)}
    columns |= {"exact": np.ones(items, bool), "container": ["mp3"] * items}
    probed = with_headers(rows, pa.table(columns, schema=PROBED))
    plan = add_increment(Plan(out, "scale", {}, {}, ()), probed, ITEM_S, np.empty(0, np.int64))
    tasks = {
        "alm": ToEncode(parse_spec("clap:untrained", "alm"), (1,)),
        "specialist": ToEncode(parse_spec("classifier:untrained", "specialist")),
    }
    done = {key: Computed(task.audio_repeats) for key, task in tasks.items()}
    _, one = add_pass(Encoded(out, plan.id, {}, {}, ()), [0], done)
    cpus = 2 * gpus + 2 * cluster.OWN_STEPS  # logical, for stand-ins that sleep
    ray.init(address="local", num_cpus=cpus, num_gpus=gpus, log_to_driver=False, include_dashboard=False)
    DataContext.get_current().enable_progress_bars = False
    config = RunConfig(input="demo", output=folder)
    pools = [cluster.Pool(tuple(tasks), gpus, gpus, 0.0, 1.0, 1)]
    run_pass(
        config, out, plan, one, tasks, pools, gpus, tally.start_tally(), StandIns(decode, sleeping(item_s))
    )
    ends = np.sort(out.read_table(one.path, ["encoder_inputs"])["encoder_inputs"].to_numpy()) / 1e9
    assert len(ends) == items
    warm = min(gpus, items - 1)  # until then not every actor has started
    return {"rate": (items - 1 - warm) / (ends[-1] - ends[warm])}


if __name__ == "__main__":
    gpus, items, item_s, folder = sys.argv[1:]
    print(json.dumps(measure(int(gpus), int(items), float(item_s), folder)))
