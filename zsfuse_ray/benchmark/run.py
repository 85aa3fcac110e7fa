"""One benchmark from start to end: check the input, then measure each part."""

import logging
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from zsfuse_ray.archive.describe import model_specs
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.benchmark.figures import Figure, page
from zsfuse_ray.benchmark.labelling import labelling
from zsfuse_ray.benchmark.memory import memory
from zsfuse_ray.benchmark.planning import planning
from zsfuse_ray.benchmark.searching import FOLDS, Searched, naive, search
from zsfuse_ray.benchmark.throughput import decoded_sample, decoding, encoding, from_end_to_end
from zsfuse_ray.config.benchmark import ON_CLIPS, BenchmarkConfig
from zsfuse_ray.config.options import recorded
from zsfuse_ray.corpora.clips import CLIPS
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.splits import folds
from zsfuse_ray.models.catalog import revision_of
from zsfuse_ray.runs.cluster import cores
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.provenance import git_revision, versions

log = logging.getLogger(__name__)

JSON, PAGE = "benchmark.json", "benchmark.md"


@holds_output
def benchmark(config: BenchmarkConfig) -> str:
    """Measure, write the figures to ``output``, and return the page.

    InputError, before any measurement, for an invalid archive, clips, models or output.
    """
    out = Output.open(config.output) if config.output else None
    if out is not None:
        out.read_json(JSON)  # an existing file must be an earlier benchmark's
    listing = list_archive(config.input)
    clips = CLIPS.empty_table()
    if set(ON_CLIPS) & set(config.parts):
        clips = folds(load(config.corpus), FOLDS)
    specs = model_specs(config)
    result: dict[str, Any] = {
        "versions": versions(),
        "git": git_revision(),
        "machine": machine(),
        "models": [str(spec) for spec in specs.values()],
        "revisions": {key: revision_of(spec) for key, spec in specs.items()},
        "config": recorded(config),
        "figures": {},
    }
    sample = cache(lambda: decoded_sample(listing, config.sample_s))
    searched: list[Searched] = []

    def searching() -> list[Figure]:
        figures, tunings = search(config)
        searched.extend(tunings)
        return figures

    bare: list[float] = []

    def encoders() -> list[Figure]:
        figures = encoding(sample(), config)
        bare[:] = [figure.median for figure in figures]
        return figures

    measure: dict[str, Callable[[], list[Figure]]] = {
        "decode": lambda: decoding(sample(), config.repeats),
        "encode": encoders,
        "end": lambda: from_end_to_end(config, bare),
        "label": lambda: labelling(config),
        "search": searching,
        "naive": lambda: naive(config, clips, searched),
        "memory": lambda: memory(config),
        "plan": lambda: planning(config),
    }
    for part in config.parts:
        log.info(f"measuring {part}")
        figures = measure[part]()
        result["figures"][part] = [figure.about() for figure in figures]
        if out is not None:  # after each part, so that results survive a failure in a later part
            out.write_json(JSON, result)
            out.write_bytes(PAGE, page(result).encode())
    return page(result)


def machine() -> dict[str, Any]:
    """The machine of the measurements, and its load."""
    cpu = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        names = [line.split(":", 1)[1].strip() for line in about.open() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": cores(), "cpu": cpu, "gpu": gpu, "load": os.getloadavg()[0]}
