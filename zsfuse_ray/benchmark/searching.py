"""Speed of the search over configurations, compared with evaluating them one by one."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import model_specs
from zsfuse_ray.audio.isolated import decode
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.audio.trim import trimmed
from zsfuse_ray.benchmark.figures import Figure, extrapolated
from zsfuse_ray.benchmark.throughput import device, run_job
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.method import metrics
from zsfuse_ray.method.fusion import fuse, specialist_on_labels
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.prompts import TEMPLATES, prompt_grid, repeat_text
from zsfuse_ray.method.zeroshot import posterior
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import load
from zsfuse_ray.models.encoding import classify_clips, embed_clips
from zsfuse_ray.models.specialist import Specialist
from zsfuse_ray.runs.cluster import cores

COPIES = (1, 2, 3, 4)  # of the audio and of the text
FOLDS = 5  # default of zsfuse tune


@dataclass(frozen=True)
class Searched:
    """Timing of one tuning: seconds of the search and of the whole job, and number of configurations."""

    search_s: float
    whole_s: float
    configurations: int


def search(config: BenchmarkConfig) -> tuple[list[Figure], list[Searched]]:
    """``zsfuse tune``: all subsets of the templates × 101 weights × copies of audio and text, one rule."""
    options = config.encoder_options | {
        "corpus": list(config.corpus),
        "templates": list(TEMPLATES[: config.templates]),
        "parts": ["train", "dev", "test"],
        "audio_repeats": list(COPIES),
        "text_repeats": list(COPIES),
        "ensembles": ["embedding"],
        "fusions": ["linear"],
    }
    done, left_out = [], ""
    for _ in range(config.repeats):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            whole_s = run_job("tune", options | {"output": str(out)})
            tuned = json.loads((out / "tune.json").read_text())
        searched = tuned["search"]
        if searched["failed"]:
            raise RuntimeError(f"blocks of zsfuse tune failed: {', '.join(searched['failed'])}")
        done.append(Searched(searched["seconds"], whole_s, searched["configurations"]))
        same = {name: tuned["amplification"][f"no_effect_{name}"] for name in ("a", "b")}
        left_out = "; ".join(
            f"{name} = {','.join(map(str, values))} is a no-op here and is left out"
            for name, values in same.items()
            if values
        )
    searches = tuple(one.search_s for one in done)
    rates = tuple(one.configurations / one.search_s for one in done)
    figures = [
        Figure(f"{done[0].configurations:,} configurations", searches, "s", left_out),
        Figure("configurations per second", rates, "/s"),
        Figure("5 million configurations", tuple(5e6 / rate for rate in rates), "s"),
        Figure(
            "tune, the whole process", tuple(one.whole_s for one in done), "s", "with encoding and choice"
        ),
    ]
    return figures, done


@dataclass(frozen=True, eq=False)
class Labelled:
    """Data to score a configuration on: targets and folds (n,), specialist (n, C), labels it covers (C,)."""

    labels: tuple[str, ...]
    targets: NDArray[np.int64]
    folds: NDArray[np.int64]
    specialist: NDArray[np.float64]
    inside: NDArray[np.bool_]


def score_one(
    clips: Labelled, audio: NDArray[np.float32], text: NDArray[np.float32], scale: float, weight: float
) -> float:
    """Return one configuration's UA, averaged over folds, with the plain functions of ``method``.

    audio: (n, D); text: (P, C, D).
    """
    alm = posterior(audio, text, scale)
    given = fuse(clips.specialist, alm, weight, "linear", clips.inside).argmax(axis=1)
    parts = (clips.folds == fold for fold in np.unique(clips.folds))
    return float(np.mean([metrics.ua(clips.targets[p], given[p], len(clips.labels)) for p in parts]))


def naive(config: BenchmarkConfig, clips: pa.Table, searched: Sequence[Searched]) -> list[Figure]:
    """Configurations one by one: re-embedding everything for each, and with cached embeddings.

    clips: labelled, in folds. Random configurations are timed on a sample of clips and extrapolated:
    embedding of audio scales with the clips, embedding of prompts is constant; scoring is timed on arrays of
    all clips, filled with the sample's. A lower bound: decoding and the specialist are not counted, and
    scoring is assumed to scale perfectly over cores.
    """
    labels = label_set(clips)
    where, dtype, usual_batch_s = device()
    batch_s = config.batch_s or usual_batch_s
    models = {kind: load(spec, where, dtype) for kind, spec in model_specs(config).items()}
    alm, specialist = models["alm"], models["specialist"]
    assert isinstance(alm, AudioLanguageModel)
    assert not isinstance(specialist, AudioLanguageModel)
    places = np.unique(np.linspace(0, len(clips) - 1, config.naive_clips).astype(int))
    sample = clips.take(pa.array(places))
    samples = _samples(sample, alm.sample_rate, where)
    labelled = _labelled(clips, labels, specialist, _samples(sample, specialist.sample_rate, where), batch_s)
    grid = prompt_grid(labels, TEMPLATES[: config.templates])
    times = []
    for n in range(config.repeats + 1):
        took = []
        rng = np.random.default_rng(n)
        for _ in range(config.naive_configurations if n else 1):  # the first time warms up
            a, b = (int(copies) for copies in rng.choice(COPIES, 2))
            subset = rng.integers(1, 2 ** len(grid))
            chosen = [row for t, row in enumerate(grid) if subset >> t & 1]
            weight = float(rng.integers(0, 101)) / 100
            times_at = [time.perf_counter()]
            with torch.inference_mode():
                audio, _ = embed_clips(alm, samples, (a,), long=config.long, batch_s=batch_s)
                times_at.append(time.perf_counter())
                texts = [repeat_text(prompt, b) for row in chosen for prompt in row]
                text = alm.embed_text(texts)[0].float().cpu().numpy()
                times_at.append(time.perf_counter())
            every = np.resize(audio[:, 0].float().numpy(), (len(clips), audio.shape[2]))
            start = time.perf_counter()
            score_one(labelled, every, text.reshape(len(chosen), len(labels), -1), alm.scale, weight)
            took.append((*np.diff(times_at), time.perf_counter() - start))
        if n:
            times.append(np.mean(took, axis=0))
    return compared(times, len(clips) / len(sample), searched, config.naive_configurations, len(sample))


def compared(
    times: Sequence[NDArray], clips: float, searched: Sequence[Searched], drawn: int, sample: int
) -> list[Figure]:
    """Cost of evaluating configurations one by one, and of all, compared with the search.

    times: per repeat, mean seconds of audio, text and scoring of one drawn configuration; clips: ratio of all
    clips to the sample.
    """
    each = [extrapolated(*map(float, t), configurations=1, clips=clips, cores=cores()) for t in times]
    note = f"{drawn} random ones per repeat, extrapolated from {sample} clips to all"
    figures = [
        Figure("one configuration, audio and text re-embedded", tuple(e[0] for e in each), "s", note),
        Figure(
            "one configuration, cached embeddings",
            tuple(1000 * e[1] for e in each),
            "ms",
            "arrays of all clips",
        ),
    ]
    if not searched:
        return figures
    every = searched[0].configurations
    whole = [extrapolated(*map(float, t), configurations=every, clips=clips, cores=cores()) for t in times]
    job = float(np.median([one.whole_s for one in searched]))
    alone = float(np.median([one.search_s for one in searched]))
    note = f"extrapolated to {every:,} configurations"
    return [
        *figures,
        Figure("all configurations, re-embedded", tuple(w[0] / 86400 for w in whole), "days", note),
        Figure("ratio to the whole tuning", tuple(w[0] / job for w in whole), "×"),
        Figure("all configurations, cached embeddings", tuple(w[1] / 3600 for w in whole), "h", note),
        Figure("ratio to the search alone", tuple(w[1] / alone for w in whole), "×"),
    ]


def _samples(clips: pa.Table, rate: int, where: torch.device) -> list[torch.Tensor]:
    """Clips at a model's rate, without the silence at their ends."""
    resampled = []
    for row in clips.select(["uri", "start_s", "end_s"]).to_pylist():
        pcm = decode(row["uri"], row["start_s"] or 0.0, row["end_s"])
        begin, end = trimmed(pcm.samples, pcm.sample_rate)
        samples = torch.from_numpy(pcm.samples[begin:end].copy()).to(where)
        resampled.append(resample(samples, pcm.sample_rate, rate))
    return resampled


def _labelled(
    clips: pa.Table,
    labels: tuple[str, ...],
    specialist: Specialist,
    samples: list[torch.Tensor],
    batch_s: float,
) -> Labelled:
    with torch.inference_mode():
        logits = classify_clips(specialist, samples, batch_s=batch_s)[0].float().numpy()
    mapping = map_labels(specialist.labels, labels)
    return Labelled(
        labels,
        np.array([labels.index(name) for name in clips["emotion"].to_pylist()]),
        clips["fold"].to_numpy(),
        specialist_on_labels(np.resize(logits, (len(clips), logits.shape[1])), mapping),
        np.any(mapping, axis=0),
    )
