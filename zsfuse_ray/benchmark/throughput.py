"""Speed of decoding, encoding, and labelling from end to end."""

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

import psutil
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
    """A sample of an archive after the first stage of a run: DECODED rows, one per bundle."""

    bundles: pa.Table
    decoded: pa.Table

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the sample."""
        return sum(item["audio_s"] for items in self.decoded["items"].to_pylist() for item in items)

    @property
    def speech_s(self) -> float:
        """Seconds of detected speech in the sample."""
        spans = [span for row in self.decoded["segments"].to_pylist() for span in row]
        return sum(span["samples"] / span["sample_rate"] for span in spans)


def decoded_sample(listing: pa.Table, sample_s: float) -> Sample:
    """Decode the first bundles of an archive, at least ``sample_s`` seconds if it has that much.

    InputError if nothing can be decoded.
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
        raise InputError("--input: no audio in it can be decoded; give another archive")
    return sample


def decoding(sample: Sample, repeats: int) -> list[Figure]:
    """Decoding and voice activity detection, together as in a run's first stage, and separately.

    In seconds of audio per CPU second of one core, so that other load and waiting for storage do not
    count.
    """
    done = [item for row in sample.decoded["items"].to_pylist() for item in row]
    readable = {item["item_id"] for item in done if item["reason"] is None}
    items = [i for row in sample.bundles["items"].to_pylist() for i in row if i["item_id"] in readable]
    both, alone, activity = [], [], []
    for _ in range(repeats):
        started = _cpu_s()
        decode_bundles(sample.bundles, HOW, ITEM_S)
        both.append(sample.audio_s / (_cpu_s() - started))
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
    unit = f"{REAL_TIME} per core"
    context = f"{HOW.left_context_s:g} s before and {HOW.right_context_s:g} s after each item are included"
    return [
        Figure("decode and detect speech", tuple(both), unit, context),
        Figure("decode alone", tuple(alone), unit),
        Figure("detect speech alone", tuple(activity), unit),
    ]


def _cpu_s() -> float:
    """CPU seconds of this process and of its child, which decodes."""
    me = psutil.Process()
    used = [one.cpu_times() for one in (me, *me.children())]
    return sum(one.user + one.system for one in used)


def device() -> tuple[torch.device, torch.dtype, float]:
    """Device and precision of a run on this machine, and seconds of audio per batch."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16, GPU_BATCH_S
    torch.set_num_threads(cores())  # speech detection has set it to 1
    return torch.device("cpu"), torch.float32, CPU_BATCH_S


def encoding(sample: Sample, config: BenchmarkConfig) -> list[Figure]:
    """Each model separately on the speech of the sample, bundle by bundle as in a run."""
    where, automatic, usual_batch_s = device()
    dtype = automatic if config.precision == "auto" else getattr(torch, config.precision)
    batch_s = config.batch_s or usual_batch_s
    if not sample.speech_s:
        raise InputError("--input: no speech detected in it, which --parts encode needs")
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
            if n:  # the first pass is a warm-up
                speeds.append(sample.speech_s / (time.perf_counter() - started))
        note = f"{str(dtype).removeprefix('torch.')}, {batch_s:g} s per batch"
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
    """Environment of a process that runs this package with its own Ray."""
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    package = str(Path(zsfuse_ray.__file__).parents[1])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (package, variables.get("PYTHONPATH"))))
    return variables


def run_job(
    verb: str,
    options: Mapping[str, Any],
    zsfuse: Sequence[str] = (sys.executable, "-m", "zsfuse_ray"),
) -> float:
    """Run a verb on this machine with its own Ray; returns its wall time in seconds.

    options: content of its --config file. InputError with its last line if it rejects them, RuntimeError if
    it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "options.yaml"
        file.write_text(yaml.safe_dump(dict(options)))
        command = [*zsfuse, verb, "--config", str(file)]
        started = time.perf_counter()
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        took = time.perf_counter() - started
    if done.returncode > 1:  # 1: complete, but too many files were unreadable
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        if done.returncode == 2:
            raise InputError(f"zsfuse {verb}: {last.removeprefix('error: ')}")
        raise RuntimeError(f"zsfuse {verb} failed with exit code {done.returncode}: {last}")
    return took


def from_end_to_end(config: BenchmarkConfig, bare: Sequence[float] = ()) -> list[Figure]:
    """``zsfuse score`` on the whole archive, in a separate process and a temporary folder.

    bare: seconds of speech per second that each model encodes alone, if measured.
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
        Figure("audio hours per device hour", tuple(device_hours), f"h/h ({where})", "from run.json"),
        Figure("start-up", tuple(startup), "s", "Python, Ray, model descriptions, plan"),
    ]
    if bare:
        note = "wall time of encoding minus that of the bare encoders; includes start of the actors"
        figures.append(Figure("overhead per item", tuple(overhead), "ms", note))
    if steady:
        note = "between the first file of encoded/ and the last"
        return [*figures, Figure("steady state", tuple(steady), REAL_TIME, note)]
    return figures


def steady_speed(encoded: Path) -> float | None:
    """Seconds of audio per second between a run's first and last file in encoded/; None for few files.

    The first file is excluded, as it waited for the actors to load their models.
    """
    files = sorted(encoded.rglob("*.parquet"), key=lambda path: path.stat().st_mtime)
    if len(files) < 4:
        return None
    rows = [row for path in files[1:] for row in pq.ParquetFile(path).read(["items"])["items"].to_pylist()]
    took = files[-1].stat().st_mtime - files[0].stat().st_mtime
    return sum(item["audio_s"] for row in rows for item in row) / took
