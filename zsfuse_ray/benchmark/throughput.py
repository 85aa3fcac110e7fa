"""How fast audio is decoded, encoded, and labelled from end to end."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

import zsfuse_ray
from zsfuse_ray.archive.bundles import bundle_items
from zsfuse_ray.archive.describe import model_specs
from zsfuse_ray.archive.layout import ENCODED, RUN
from zsfuse_ray.archive.probing import PROBES_PER_TASK, probe_recordings, with_headers
from zsfuse_ray.archive.schemas import BUNDLE
from zsfuse_ray.archive.stages.decode import decode_bundles
from zsfuse_ray.archive.stages.encode import CPU_BATCH_S, GPU_BATCH_S
from zsfuse_ray.audio.decode import decode
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.audio.segment import Segmentation
from zsfuse_ray.audio.vad import find_segments
from zsfuse_ray.benchmark.figures import Figure
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.score import PlanConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import load
from zsfuse_ray.models.encoding import classify_clips, embed_clips
from zsfuse_ray.runs.cluster import cores

ITEM_S = float(PlanConfig.__dataclass_fields__["item_s"].default)
HOW = Segmentation()
REAL_TIME = "× real time"


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample of an archive, as the first stage of a run leaves it: DECODED rows, a bundle each."""

    bundles: pa.Table
    decoded: pa.Table

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the sample."""
        return sum(item["audio_s"] for items in self.decoded["items"].to_pylist() for item in items)

    @property
    def speech_s(self) -> float:
        """Seconds of speech that was found in it."""
        spans = [span for row in self.decoded["segments"].to_pylist() for span in row]
        return sum(span["samples"] / span["sample_rate"] for span in spans)


def decoded_sample(listing: pa.Table, sample_s: float) -> Sample:
    """Decode the first bundles of an archive, of at least ``sample_s`` seconds where there is so much.

    InputError where nothing of it can be read.
    """
    planned: list[dict[str, Any]] = []
    seconds = 0.0
    for start in range(0, len(listing), PROBES_PER_TASK):
        some = listing.slice(start, PROBES_PER_TASK)
        some = some.add_column(0, "recording_id", pa.array(range(start, start + len(some)), pa.int64()))
        some = some.append_column("plan_part", pa.nulls(len(some), pa.int64()))
        headers = probe_recordings(some.select(["recording_id", "uri"]))
        for bundle in bundle_items(with_headers(some, headers), ITEM_S):
            if seconds < sample_s:
                planned.append(bundle)
                seconds += sum(item["end_s"] - item["start_s"] for item in bundle["items"])
        if seconds >= sample_s:
            break
    bundles = pa.Table.from_pylist(planned, schema=BUNDLE)
    sample = Sample(bundles, decode_bundles(bundles, HOW, ITEM_S))
    if not sample.audio_s:
        raise InputError("--input: nothing of it can be decoded, so nothing can be measured")
    return sample


def decoding(sample: Sample, repeats: int) -> list[Figure]:
    """Decoding and voice activity, together as a run's first stage does it, and each by itself.

    In seconds of audio a second of one core: CPU time is counted, so that other work on the machine and
    waiting for storage does not.
    """
    done = [item for row in sample.decoded["items"].to_pylist() for item in row]
    readable = {item["item_id"] for item in done if item["reason"] is None}
    items = [i for row in sample.bundles["items"].to_pylist() for i in row if i["item_id"] in readable]
    both, alone, activity = [], [], []
    for _ in range(repeats):
        started = time.process_time()
        decode_bundles(sample.bundles, HOW, ITEM_S)
        both.append(sample.audio_s / (time.process_time() - started))
        decode_s = activity_s = audio_s = 0.0
        for item in items:
            offset = item["slice_start_s"]
            started = time.process_time()
            pcm = decode(item["uri"], offset + item["start_s"], offset + item["end_s"])
            decoded = time.process_time()
            find_segments(pcm.samples, pcm.sample_rate, HOW)
            activity_s += time.process_time() - decoded
            decode_s += decoded - started
            audio_s += len(pcm.samples) / pcm.sample_rate
        alone.append(audio_s / decode_s)
        activity.append(audio_s / activity_s)
    unit = f"{REAL_TIME} a core"
    context = f"{HOW.left_context_s:g} s before and {HOW.right_context_s:g} s after each item included"
    return [
        Figure("decode and find speech", tuple(both), unit, context),
        Figure("decode alone", tuple(alone), unit),
        Figure("find speech alone", tuple(activity), unit),
    ]


def device() -> tuple[torch.device, torch.dtype, float]:
    """Where a run would encode here, in which precision, and with how many seconds of audio at once."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16, GPU_BATCH_S
    torch.set_num_threads(cores())  # finding speech has set it to one
    return torch.device("cpu"), torch.float32, CPU_BATCH_S


def encoding(sample: Sample, config: BenchmarkConfig) -> list[Figure]:
    """Each model by itself on the speech of the sample, bundle by bundle as in a run."""
    where, automatic, usual_batch_s = device()
    dtype = automatic if config.precision == "auto" else getattr(torch, config.precision)
    batch_s = config.batch_s or usual_batch_s
    if not sample.speech_s:
        raise InputError("--input: there is no speech in it for --parts encode")
    figures = []
    for kind, spec in model_specs(config).items():
        model = load(spec, where, dtype)
        bundles = [_clips(row, model.sample_rate, where) for row in sample.decoded.to_pylist()]
        speeds = []
        for n in range(config.repeats + 1):
            started = time.perf_counter()
            with torch.inference_mode():
                for clips in bundles:
                    if isinstance(model, AudioLanguageModel):
                        embed_clips(model, clips, config.audio_repeats, long=config.long, batch_s=batch_s)
                    else:
                        classify_clips(model, clips, long=config.long, batch_s=batch_s)
            if n:  # the first time warms up
                speeds.append(sample.speech_s / (time.perf_counter() - started))
        note = f"{str(dtype).removeprefix('torch.')}, {batch_s:g} s a batch"
        if where.type == "cuda":
            note += f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of GPU memory"
            del model
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        figures.append(Figure(f"{kind} {spec}", tuple(speeds), f"{REAL_TIME} ({where.type})", note))
    return figures


def _clips(row: dict[str, Any], rate: int, where: torch.device) -> list[torch.Tensor]:
    """The segments of a bundle at the model's rate."""
    spans = row["segments"]
    if not spans:
        return []
    samples = torch.frombuffer(bytearray(row["pcm"]), dtype=torch.int16).to(where)
    clips = samples.split([span["samples"] for span in spans])
    return [resample(clip, span["sample_rate"], rate) for clip, span in zip(clips, spans, strict=True)]


def environment() -> dict[str, str]:
    """Environment of a process that runs this package, with a Ray of its own."""
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    package = str(Path(zsfuse_ray.__file__).parents[1])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (package, variables.get("PYTHONPATH"))))
    return variables


def run_job(
    verb: str,
    options: Mapping[str, Any],
    zsfuse: Sequence[str] = (sys.executable, "-m", "zsfuse_ray"),
) -> float:
    """Run a verb on this machine, with a Ray of its own; returns its wall time in seconds.

    options: what its --config file holds. InputError with its last line where it refused them, RuntimeError
    where it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "options.yaml"
        file.write_text(yaml.safe_dump(dict(options)))
        command = [*zsfuse, verb, "--config", str(file)]
        started = time.perf_counter()
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        took = time.perf_counter() - started
    if done.returncode > 1:  # 1: it ended, but too much of the archive could not be read
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        if done.returncode == 2:
            raise InputError(f"zsfuse {verb}: {last.removeprefix('error: ')}")
        raise RuntimeError(f"zsfuse {verb} ended with {done.returncode}: {last}")
    return took


def from_end_to_end(config: BenchmarkConfig, bare: Sequence[float] = ()) -> list[Figure]:
    """``zsfuse score`` on the whole archive, as a process of its own in a temporary folder.

    bare: seconds of speech a second that each model encodes by itself, where that was measured.
    """
    whole, device_hours, startup, steady, overhead = [], [], [], [], []
    where = "cpu"
    for _ in range(config.repeats):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            options = config.encoder_options | {"input": config.input, "output": str(out)}
            took = run_job("score", options)
            run = json.loads((out / RUN).read_text())
            spent, counts = run["time"], run["counts"]
            encoders_s = sum(3600 * counts["speech_hours"] / speed for speed in bare)
            overhead.append(1000 * (spent["encode_s"] - encoders_s) / max(1, counts["items"]))
            whole.append(spent["audio_hours_this_time"] * 3600 / took)
            device_hours.append(spent["audio_hours_per_device_hour"])
            startup.append(took - spent["wall_s"])
            where = spent["device"]
            if (speed := steady_speed(out / ENCODED)) is not None:
                steady.append(speed)
    figures = [
        Figure("score, the whole process", tuple(whole), REAL_TIME),
        Figure("audio hours a device hour", tuple(device_hours), f"h/h ({where})", "as run.json has it"),
        Figure("start-up", tuple(startup), "s", "Python, Ray, models described, plan"),
    ]
    if bare:
        note = "wall time of encoding less that of the bare encoders; start of the actors included"
        figures.append(Figure("overhead an item", tuple(overhead), "ms", note))
    if steady:
        note = "between the first file of encoded/ and the last"
        return [*figures, Figure("steady state", tuple(steady), REAL_TIME, note)]
    return figures


def steady_speed(encoded: Path) -> float | None:
    """Seconds of audio a second between a run's first file of encoded/ and its last; None of few files.

    What is written first has waited for the actors to load their models.
    """
    files = sorted(encoded.rglob("*.parquet"), key=lambda path: path.stat().st_mtime)
    if len(files) < 4:
        return None
    rows = [row for path in files[1:] for row in pq.ParquetFile(path).read(["items"])["items"].to_pylist()]
    took = files[-1].stat().st_mtime - files[0].stat().st_mtime
    return sum(item["audio_s"] for row in rows for item in row) / took
