"""How fast an embedding table becomes labels, on one core."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import model_specs
from zsfuse_ray.archive.embed_run import PARQUET, PREPROCESSING
from zsfuse_ray.archive.embeddings import EMBEDDINGS
from zsfuse_ray.archive.layout import table_columns
from zsfuse_ray.archive.rows import kind_of
from zsfuse_ray.archive.summaries import REJECT
from zsfuse_ray.archive.tables import fixed
from zsfuse_ray.benchmark.figures import Figure
from zsfuse_ray.benchmark.throughput import run_job
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.score import DECIDED, PlanConfig
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import load
from zsfuse_ray.runs.folder import RECORDINGS, RECORDINGS_PLANNED, REJECTS, RUN, Output
from zsfuse_ray.runs.provenance import versions

REPEATS, DISTINCT = (1, 2, 3, 4), 3  # copies of the audio in the table, and different inputs they come to
ROWS_A_FILE = 50_000


def rescoring(config: BenchmarkConfig, jobs: Path) -> list[Figure]:
    """``jobs/score.py --embeddings`` on a table of random values; its own count of segments a second."""
    with tempfile.TemporaryDirectory() as folder:
        write_table(config, Path(folder) / "table")
        speeds = []
        for n in range(config.repeats):
            out = Path(folder) / f"labels{n}"
            with _one_core():
                run_job(jobs / "score.py", {"embeddings": f"{folder}/table", "output": str(out)})
            speeds.append(json.loads((out / RUN).read_text())["time"]["segments_per_s"])
    note = f"{config.rescore_segments:,} segments, reading and writing tables included, loading models not"
    return [Figure("labels from an embedding table, one core", tuple(speeds), "segments a second", note)]


def write_table(config: BenchmarkConfig, folder: Path) -> None:
    """A complete table, as of ``jobs/embed.py``, whose values are random."""
    out, n = Output.open(str(folder)), config.rescore_segments
    models = {key: _about(load(spec)) | {"model": str(spec)} for key, spec in model_specs(config).items()}
    for first in range(0, n, ROWS_A_FILE):
        rows = _segments(first, min(ROWS_A_FILE, n - first), models)
        out.write_table(f"{EMBEDDINGS}/{first:09}.parquet", rows, **PARQUET)
    planned = {"recording_id": 0, "uri": "random.wav", "start_s": None, "end_s": None, "probe_reason": None}
    schema = pa.schema([("recording_id", pa.int64()), ("uri", pa.string()), ("start_s", pa.float64())])
    schema = schema.append(pa.field("end_s", pa.float64())).append(pa.field("probe_reason", pa.string()))
    out.write_table(RECORDINGS_PLANNED, pa.Table.from_pylist([planned], schema=schema))
    out.write_table(f"{RECORDINGS}/recordings.parquet", pa.table({"duration_s": [float(n)]}))
    rejects = pa.schema([field for field in REJECT if field.name != "recording_id"]).empty_table()
    out.write_table(f"{REJECTS}/rejects.parquet", rejects)
    usual = PlanConfig(input="random", output=str(folder))
    decided = {name: getattr(usual, name, getattr(config, name, None)) for name in DECIDED}
    counts = {"recordings": 1, "items": 1, "unreadable": 0, "segments": n, "audio_hours": n / 3600}
    counts |= {
        "speech_hours": n / 3600,
        "failures": 0,
        "rejects": {},
        "label_shares": {},
        "encoder_inputs": 0,
    }
    kept = {"dtype": "float32", "preprocessing": PREPROCESSING, "folder": EMBEDDINGS}
    run = {"versions": versions(), "config": decided, "models": models, EMBEDDINGS: kept, "counts": counts}
    run["effective_repetition"] = {key: {str(a): {} for a in REPEATS} for key in models}
    out.write_json(RUN, run | {"status": "complete"})


def _about(model: Any) -> dict[str, Any]:
    about = {"revision": model.revision, "licence": model.licence, "sample_rate": model.sample_rate}
    if isinstance(model, AudioLanguageModel):
        return about | {"dim": model.dim, "scale": model.scale, "audio_repeats": list(REPEATS)}
    return about | {"labels": list(model.labels)}


def _segments(first: int, n: int, models: dict[str, Any]) -> pa.Table:
    rng = np.random.default_rng(first)
    numbers = np.arange(first, first + n)
    columns: dict[str, Any] = {
        "recording_uri": pa.array(["random.wav"] * n),
        "recording_id": pa.array(np.zeros(n, np.int64)),
        "item_id": pa.array(np.zeros(n, np.int64)),
        "segment_id": pa.array(numbers),
        "start_s": pa.array(numbers.astype(float)),
        "end_s": pa.array(numbers + 1.0),
        "speech_prob": pa.array(np.ones(n, np.float32)),
    }
    for key, about in models.items():
        if kind_of(key) == "specialist":
            columns[table_columns(key)[0]] = fixed(_normal(rng, n, len(about["labels"])))
            continue
        of_embeddings, of_inputs = table_columns(key)
        columns[of_embeddings] = _lists(fixed(_normal(rng, n * DISTINCT, about["dim"])), DISTINCT, n)
        inputs = np.tile(np.minimum(np.arange(len(REPEATS)), DISTINCT - 1).astype(np.int8), n)
        columns[of_inputs] = _lists(pa.array(inputs), len(REPEATS), n)
    return pa.table(columns)


def _normal(rng: np.random.Generator, n: int, size: int) -> NDArray[np.float32]:
    values = rng.standard_normal((n, size), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _lists(values: pa.Array, each: int, n: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * each, pa.int32()), values)


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
