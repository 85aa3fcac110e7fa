"""Encode segments with the models: actors on a GPU or a CPU."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import torch

from zsfuse_ray.archive.packing import pack_embeddings, pack_values
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.schemas import DECODED, encoded_schema, kind_of, model_columns, segment_seed
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import same_as
from zsfuse_ray.models.catalog import load
from zsfuse_ray.models.encoding import Long, classify_clips, embed_clips, window_lengths

GPU_BATCH_S = 320.0
CPU_BATCH_S = 40.0  # larger batches are not faster on a CPU and take more memory


@dataclass(frozen=True)
class EncodeOptions:
    """Options of an encoder actor for all its models."""

    long: Long
    crop: Literal["head", "seeded"]
    batch_s: float | None
    precision: Literal["auto", "float32", "bfloat16", "float16"]


class Encode:
    """Actor with loaded models: DECODED rows → the same rows with `encoded_schema`'s columns of its models.

    models: those of this actor, by their names in tables; every: the names of all models of the pass. With
    several pools, each passes the audio on; the last pool drops it, unless keep_audio, and reports each
    bundle to the tally.
    """

    def __init__(
        self,
        models: Mapping[str, ToEncode],
        every: Sequence[str],
        options: EncodeOptions,
        gpu: bool,
        threads: int,
        last: bool,
        keep_audio: bool = False,
        tally: Any = None,
    ) -> None:
        torch.set_num_threads(threads)
        # oneDNN caches primitives for up to 1024 shapes; with segments of all lengths this acts like a leak
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
        torch.backends.cudnn.allow_tf32 = False  # it would round the inputs of resampling to 10 bits
        if gpu and not torch.cuda.is_available():
            raise InputError("torch cannot use the assigned GPU; --gpus-per-encoder 0 encodes on CPUs")
        # not is_available(): Ray does not hide GPUs from an actor without one
        self.device = torch.device("cuda" if gpu else "cpu")
        automatic = "bfloat16" if self.device.type == "cuda" else "float32"
        dtype = getattr(torch, automatic if options.precision == "auto" else options.precision)
        self.tasks = models
        self.models: dict[str, Any] = {
            key: load(task.spec, self.device, dtype) for key, task in models.items()
        }
        self.schema = encoded_schema(every)
        if not last or keep_audio:
            self.schema = self.schema.append(DECODED.field("pcm"))
        self.tally = tally if last else None
        self.batch_s = options.batch_s or (GPU_BATCH_S if gpu else CPU_BATCH_S)
        self.options = options

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode each bundle separately: the plan, not a run's timing, determines what shares a batch."""
        rows = []
        for row in batch.to_pylist():
            row = dict.fromkeys(self.schema.names) | {"encoder_inputs": 0} | row
            self._encode(row)
            rows.append({name: row[name] for name in self.schema.names})
        done = pa.Table.from_pylist(rows, schema=self.schema)
        if self.tally is not None:
            from zsfuse_ray.runs.tally import report  # lazy: a Labeller does not need Ray

            report(self.tally, done)
        return done

    @torch.inference_mode()
    def _encode(self, row: dict[str, Any]) -> None:
        """Add each model's outputs for the segments to the row."""
        segments, pcm = row["segments"], row["pcm"]
        lengths, rates = [s["samples"] for s in segments], [s["sample_rate"] for s in segments]
        samples = (
            torch.frombuffer(bytearray(pcm), dtype=torch.int16).to(self.device) if pcm else torch.empty(0)
        )
        clips = samples.split(lengths) if lengths else ()
        seeds = None
        if self.options.crop == "seeded":
            seeds = [segment_seed(s["item_id"], s["start_s"]) for s in segments]
        how: Any = {"long": self.options.long, "batch_s": self.batch_s}
        resampled: dict[int, list[torch.Tensor]] = {}
        for key, model in self.models.items():
            rate = model.sample_rate
            if rate not in resampled:
                resampled[rate] = [resample(c, r, rate) for c, r in zip(clips, rates, strict=True)]
            first, second = model_columns(key)
            if kind_of(key) == "alm":
                task = self.tasks[key]
                values, inputs = embed_clips(
                    model, resampled[rate], task.audio_repeats, known=task.known, seeds=seeds, **how
                )
                known = self._known(model, task, resampled[rate], seeds) if task.known else None
                row[first], row[second] = pack_embeddings(values.float().numpy(), known)
                row["encoder_inputs"] += inputs
            else:
                logits, vectors = classify_clips(model, resampled[rate], **how)
                row[first] = pack_values(logits.float().numpy())
                row[second] = pack_values(None if vectors is None else vectors.float().numpy())

    def _known(
        self, model: Any, task: ToEncode, clips: Sequence[torch.Tensor], seeds: Sequence[int] | None
    ) -> list[list[int | None]]:
        """For each clip and repeat, the index of the known repeat with the same model input, else None."""
        places: list[list[int | None]] = []
        for clip, seed in zip(clips, seeds or [None] * len(clips), strict=True):
            lengths = window_lengths(len(clip), model.window, self.options.long)
            like = [
                same_as(lengths, a, task.known, model.window, model.fill, seed) for a in task.audio_repeats
            ]
            places.append([None if a is None else task.known.index(a) for a in like])
        return places
