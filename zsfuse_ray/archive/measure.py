"""Measure the device time of the models on a sample of a planned archive."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from zsfuse_ray.archive.describe import facts_of
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.schemas import BUNDLE, DECODED
from zsfuse_ray.archive.stages.decode import decode_bundles
from zsfuse_ray.archive.stages.encode import Encode, EncodeOptions
from zsfuse_ray.audio.redirects import allow_only
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.config.score import PlanConfig

# Seconds of speech in a sample: about a minute for large models on one core, and full batches on a GPU.
CPU_SAMPLE_S = 60.0
GPU_SAMPLE_S = 600.0
RECORDINGS = 3  # most recordings in a sample


@dataclass(frozen=True)
class Measured:
    """A measurement: encode_s seconds of a device for encoded_s seconds of speech.

    speech_s: seconds of speech in audio_s seconds of the archive's audio. models: their facts, by their names
    in tables; repeats: audio repeats that each encoded.
    """

    on_gpu: bool
    encode_s: float
    encoded_s: float
    speech_s: float
    audio_s: float
    models: dict[str, dict[str, Any]]
    repeats: dict[str, tuple[int, ...]]

    @property
    def seconds_per_hour(self) -> float:
        """Seconds of a device, a GPU or a CPU core, per hour of the archive's audio."""
        return 3600 * self.encode_s / self.encoded_s * self.speech_s / self.audio_s


def measure(
    items: Sequence[dict[str, Any]], config: PlanConfig, wanted: Mapping[str, ToEncode], gpu: bool
) -> Measured | None:
    """Decode items, in order, until there is enough speech for a sample, and time the models on it.

    None if they have no speech. On CPUs one core is used. Loading is not timed.
    """
    allow_only(config.allow_hosts)
    row, speech_s, audio_s = _sample(items, config, GPU_SAMPLE_S if gpu else CPU_SAMPLE_S)
    if not row["segments"]:
        return None
    options = EncodeOptions(config.long, config.crop, config.batch_s, config.precision)
    encode = Encode(wanted, tuple(wanted), options, gpu, threads=1, last=True)
    encode(pa.Table.from_pylist([_cut(row, 0)], schema=DECODED))  # warm-up: the first call is slower
    clock = time.monotonic if gpu else time.process_time  # CPU time excludes other load on the machine
    started = clock()
    encode(pa.Table.from_pylist([row], schema=DECODED))
    return Measured(
        on_gpu=gpu,
        encode_s=clock() - started,
        encoded_s=_seconds(row["segments"]),
        speech_s=speech_s,
        audio_s=audio_s,
        models={key: facts_of(wanted[key].spec, model) for key, model in encode.models.items()},
        repeats={key: one.audio_repeats for key, one in wanted.items()},
    )


def _sample(
    items: Sequence[dict[str, Any]], config: PlanConfig, sample_s: float
) -> tuple[dict[str, Any], float, float]:
    """A DECODED row with about ``sample_s`` seconds of speech; seconds of speech and audio in its items."""
    sample = {"bundle_id": 0, "part": 0, "items": [], "segments": [], "pcm": b""}
    speech_s = audio_s = 0.0
    share_s = sample_s / max(1, min(RECORDINGS, len({item["recording_id"] for item in items})))
    for row in _decoded(items, config):
        speech_s += _seconds(row["segments"])
        audio_s += sum(item["audio_s"] for item in row["items"])
        part = _cut(row, min(share_s, sample_s - _seconds(sample["segments"])))
        for name in ("items", "segments", "pcm"):
            sample[name] += part[name]
        if _seconds(sample["segments"]) >= sample_s:
            break
    return sample, speech_s, audio_s


def _decoded(items: Sequence[dict[str, Any]], config: PlanConfig) -> Iterator[dict[str, Any]]:
    """A DECODED row for each item that can be read; the run will report the others."""
    for item in items:
        bundle = pa.Table.from_pylist([{"bundle_id": 0, "part": 0, "items": [item]}], schema=BUNDLE)
        try:
            yield from decode_bundles(bundle, config.segmentation, config.item_s).to_pylist()
        except SourceError:
            continue


def _cut(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The row with only its first segments, up to this length in seconds; at least one if it has any."""
    kept, samples, length = [], 0, 0.0
    for segment in row["segments"]:
        kept.append(segment)
        samples += segment["samples"]
        length += segment["samples"] / segment["sample_rate"]
        if length >= seconds:
            break
    return row | {"segments": kept, "pcm": row["pcm"][: 2 * samples]}


def _seconds(segments: Sequence[dict[str, Any]]) -> float:
    return sum(segment["samples"] / segment["sample_rate"] for segment in segments)
