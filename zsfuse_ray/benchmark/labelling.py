"""Speed and memory of labelling encoded segments, on an archive of random values."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import load_models, model_specs
from zsfuse_ray.archive.growth import add_increment
from zsfuse_ray.archive.layout import RUN, plan_file
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

pc: Any = pyarrow.compute

REPEATS = (1, 2)
OF_RECORDING, SEGMENT_S = 100, 3.0  # segments per recording (one item), and their length
BUNDLES_A_FILE = 32


def labelling(config: BenchmarkConfig) -> list[Figure]:
    """``zsfuse score --embeddings`` on random values: segments per second by its own count, and memory."""
    sizes = sorted(set(config.label_segments))
    figures = []
    with tempfile.TemporaryDirectory(dir=config.scratch or None) as folder:
        for size in sizes:
            table = Path(folder) / f"table{size}"
            write_encoded(config, table, size)
            speeds, cpu, tasks, drivers = [], [], [], []
            for n in range(config.repeats):
                out = Path(folder) / f"labels{size}-{n}"
                with _one_core():
                    run_job("score", {"embeddings": str(table), "output": str(out)})
                spent = json.loads((out / RUN).read_text())["time"]
                speeds.append(spent["segments_labelled_per_s"])
                cpu.append(spent["cpu_s_of_label_tasks"] / size * 1e6)
                tasks.append(spent["peak_mb_of_label_tasks"])
                drivers.append(spent["peak_mb_of_driver"])
            what = f"{size:,} segments"
            note = "one core; including reading and writing of tables, excluding loading of models"
            figures += [
                Figure(f"label {what}", tuple(speeds), "segments per second", note),
                Figure(f"label {what}: CPU time", tuple(cpu), "s per million segments"),
                Figure(f"label {what}: peak memory of a task", tuple(tasks), "MB"),
                Figure(f"label {what}: peak memory of the driver", tuple(drivers), "MB"),
            ]
    return figures


def write_encoded(config: BenchmarkConfig, folder: Path, segments: int) -> None:
    """Write an output as of ``zsfuse embed``: recordings of OF_RECORDING segments with random values."""
    out, n = Output.open(str(folder)), -(-segments // OF_RECORDING)
    usual = RunConfig(input="random", output=str(folder), precision=config.precision)
    models = {
        key: facts | ({"vector_dim": None} if "labels" in facts else {})
        for key, facts in load_models(model_specs(config)).facts.items()
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
    values, number = _bundle_values(models), 0
    for batch in out.dataset(plan_file(0, "bundles")).to_batches(batch_size=BUNDLES_A_FILE):
        bundles = pa.Table.from_batches([batch])
        for part in bundles["part"].unique().to_pylist():
            rows = _rows(bundles.filter(pc.equal(bundles["part"], part)), values, models)
            out.write_table(f"{one.path}/part={part}/{number:08}.parquet", rows)
            number += 1
    encoded.with_pass(type(one)(one.folder, one.increments, one.models, complete=True))


def _bundle_values(models: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The columns of one bundle, shared by all; half of its segments have two distinct embeddings."""
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


def _rows(bundles: pa.Table, values: Mapping[str, Any], models: Mapping[str, Any]) -> pa.Table:
    """Encoded rows of one-item bundles, all with the same values."""
    n = len(bundles)
    items = bundles["items"].combine_chunks().flatten()
    seconds = np.full(n, OF_RECORDING * SEGMENT_S)
    outcome = {"item_id": items.field("item_id"), "recording_id": items.field("recording_id")}
    outcome |= {"planned_s": seconds, "audio_s": seconds}
    outcome |= {name: pa.nulls(n, pa.string()) for name in ("stage", "reason", "message")}
    starts = np.tile(SEGMENT_S * np.arange(OF_RECORDING), n)
    span = {
        "item_id": np.repeat(items.field("item_id").to_numpy(), OF_RECORDING),
        "start_s": starts,
        "end_s": starts + SEGMENT_S,
        "speech_prob": np.ones(len(starts), np.float32),
        "samples": np.full(len(starts), 48_000),
        "sample_rate": np.full(len(starts), 16_000, np.int32),
    }
    schema = encoded_schema(models)
    columns: dict[str, Any] = {
        "bundle_id": bundles["bundle_id"],
        "items": _lists(outcome, n, 1),
        "segments": _lists(span, n, OF_RECORDING),
        **{name: pa.array([value] * n, schema.field(name).type) for name, value in values.items()},
    }
    return pa.table(columns)


def _lists(fields: Mapping[str, Any], n: int, each: int) -> pa.ListArray:
    structs = pa.StructArray.from_arrays([pa.array(value) for value in fields.values()], list(fields))
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * each, pa.int32()), structs)


def _normal(rng: np.random.Generator, n: int, size: int) -> NDArray[np.float32]:
    return rng.standard_normal((n, size), np.float32)


@contextmanager
def _one_core() -> Iterator[None]:
    """Restrict this process and its children to one core, on systems that support it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
