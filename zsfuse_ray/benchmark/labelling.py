"""How fast what is encoded becomes labels, and how much memory that takes: on an archive of random values."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import describe_models, model_specs
from zsfuse_ray.archive.growth import add_increment
from zsfuse_ray.archive.layout import RUN
from zsfuse_ray.archive.packing import to_half
from zsfuse_ray.archive.passes import Computed, Encoded, add_pass
from zsfuse_ray.archive.plan import Plan, plan_identity
from zsfuse_ray.archive.probing import PROBED
from zsfuse_ray.archive.schemas import encoded_schema, kind_of, model_columns
from zsfuse_ray.archive.wanted import encoding_options
from zsfuse_ray.audio.manifest import PROBE
from zsfuse_ray.benchmark.figures import Figure
from zsfuse_ray.benchmark.throughput import run_job
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.score import RunConfig
from zsfuse_ray.runs.folder import Output

REPEATS = (1, 2)
OF_RECORDING, SEGMENT_S = 100, 3.0  # segments of a recording, which is one item, and their length
BUNDLES_A_FILE = 32


def labelling(config: BenchmarkConfig, jobs: Path) -> list[Figure]:
    """``jobs/score.py --embeddings`` on random values: its own count of segments a second, and its memory."""
    sizes = sorted(set(config.label_segments))
    figures = []
    with tempfile.TemporaryDirectory(dir=config.scratch or None) as folder:
        for size in sizes:
            table = Path(folder) / f"table{size}"
            write_encoded(config, table, size)
            speeds, tasks, drivers = [], [], []
            for n in range(config.repeats):
                out = Path(folder) / f"labels{size}-{n}"
                with _one_core():
                    run_job(jobs / "score.py", {"embeddings": str(table), "output": str(out)})
                spent = json.loads((out / RUN).read_text())["time"]
                speeds.append(spent["segments_labelled_per_s"])
                tasks.append(spent["peak_mb_of_label_tasks"])
                drivers.append(spent["peak_mb_of_driver"])
            what = f"{size:,} segments"
            note = "one core, reading and writing tables included, loading models not"
            figures += [
                Figure(f"label {what}", tuple(speeds), "segments a second", note),
                Figure(f"label {what}: most memory of a task", tuple(tasks), "MB"),
                Figure(f"label {what}: most memory of the driver", tuple(drivers), "MB"),
            ]
    return figures


def write_encoded(config: BenchmarkConfig, folder: Path, segments: int) -> None:
    """An output as ``jobs/embed.py`` leaves it, of recordings of OF_RECORDING segments with random values."""
    out, n = Output.open(str(folder)), -(-segments // OF_RECORDING)
    usual = RunConfig(input="random", output=str(folder), precision=config.precision)
    models = {
        key: facts | ({"vector_dim": None} if "labels" in facts else {})
        for key, facts in describe_models(model_specs(config)).items()
    }
    length = OF_RECORDING * SEGMENT_S
    columns: dict[str, Any] = {
        "recording_id": np.arange(n),
        "uri": [f"random/{i}.wav" for i in range(n)],
        "start_s": pa.nulls(n, pa.float64()),
        "end_s": pa.nulls(n, pa.float64()),
        "size": pa.nulls(n, pa.int64()),
        "plan_key": np.arange(n),
        "plan_version": np.zeros(n, np.int64),
    }
    for field in list(PROBED)[1:]:
        columns[f"{PROBE}{field.name}"] = pa.nulls(n, field.type)
    columns |= {"probe_duration_s": np.full(n, length), "probe_exact": np.ones(n, bool)}
    columns["probe_container"] = ["wav"] * n
    plan = Plan(out, "random", plan_identity(usual), {}, ())
    plan = add_increment(plan, pa.table(columns), usual.item_s, np.empty(0, np.int64))
    encoded, one = add_pass(
        Encoded(out, plan.id, encoding_options(usual), models, ()),
        [0],
        {key: Computed(REPEATS if kind_of(key) == "alm" else ()) for key in models},
    )
    rows = _bundle_values(models)
    schema = encoded_schema(models)
    bundles = out.dataset("plan/000/bundles.parquet")
    number = 0
    for batch in bundles.to_batches(batch_size=BUNDLES_A_FILE):
        table = pa.Table.from_batches([batch])
        for part in set(table["part"].to_pylist()):
            some = [row for row in table.to_pylist() if row["part"] == part]
            content = pa.Table.from_pylist([_row(row, rows) for row in some], schema=schema)
            out.write_table(f"{one.path}/part={part}/{number:08}.parquet", content.drop_columns(["part"]))
            number += 1
    encoded.with_pass(type(one)(one.folder, one.increments, one.models, complete=True))


def _bundle_values(models: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The columns of one bundle, which all have: half of its segments have two distinct embeddings."""
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {"encoder_inputs": 0}
    for key, facts in models.items():
        first, second = model_columns(key)
        if kind_of(key) == "specialist":
            values |= {
                first: to_half(_normal(rng, OF_RECORDING, len(facts["labels"]))).tobytes(),
                second: None,
            }
            continue
        inputs = np.zeros((OF_RECORDING, len(REPEATS)), np.int8)
        inputs[::2, 1] = 1
        distinct = OF_RECORDING + int(inputs.max(axis=1).sum())
        values[first] = to_half(_normal(rng, distinct, facts["dim"])).tobytes()
        values[second] = inputs.tobytes()
    return values


def _row(bundle: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    (item,) = bundle["items"]
    seconds = {"planned_s": OF_RECORDING * SEGMENT_S, "audio_s": OF_RECORDING * SEGMENT_S}
    place = {"item_id": item["item_id"], "speech_prob": 1.0, "samples": 48_000, "sample_rate": 16_000}
    segments = [place | {"start_s": i * SEGMENT_S, "end_s": (i + 1) * SEGMENT_S} for i in range(OF_RECORDING)]
    items = [{"item_id": item["item_id"], "recording_id": item["recording_id"]} | seconds]
    return {"bundle_id": bundle["bundle_id"], "items": items, "segments": segments, **values}


def _normal(rng: np.random.Generator, n: int, size: int) -> NDArray[np.float32]:
    return rng.standard_normal((n, size), np.float32)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and those it starts, to one of its cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
