"""Encode segments with the models: actors on a GPU or a CPU."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import torch

from zsfuse_ray.archive.rows import DECODED, column_of, encoded_schema, kind_of, segment_seed
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec, load
from zsfuse_ray.models.encoding import Long, classify_clips, embed_clips

GPU_BATCH_S = 320.0
CPU_BATCH_S = 40.0  # more is no faster there and takes more memory


@dataclass(frozen=True)
class Hear:
    """What one model is to compute: for an ALM, copies of the audio that no known number of copies equals."""

    spec: ModelSpec
    audio_repeats: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class EncodeOptions:
    """What an encoder actor needs to know of all its models."""

    long: Long
    crop: Literal["head", "seeded"]
    batch_s: float | None
    precision: Literal["auto", "float32", "bfloat16", "float16"]


class Encode:
    """Actor that holds models: DECODED rows → the same rows with embeddings, logits, or both.

    models: those of this actor, by their names in tables; every: the names of all of the run's. In a pool of
    its own a model passes the audio on; ``last`` drops it.
    """

    def __init__(
        self,
        models: Mapping[str, Hear],
        every: Sequence[str],
        options: EncodeOptions,
        gpu: bool,
        threads: int,
        last: bool,
    ) -> None:
        torch.set_num_threads(threads)
        # oneDNN keeps what it made for every shape it met, 1024 of them: on speech of all lengths, a leak
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
        torch.backends.cudnn.allow_tf32 = False  # it would round what resampling convolves to 10 bits
        if gpu and not torch.cuda.is_available():
            raise InputError("torch cannot use the GPU that Ray gives; --gpus-per-encoder 0 encodes on CPUs")
        # Ray hides no GPU from an actor that has none
        self.device = torch.device("cuda" if gpu else "cpu")
        automatic = "bfloat16" if self.device.type == "cuda" else "float32"
        dtype = getattr(torch, automatic if options.precision == "auto" else options.precision)
        self.wanted = models
        self.models: dict[str, Any] = {
            key: load(hear.spec, self.device, dtype) for key, hear in models.items()
        }
        # with the audio where another pool still needs it
        self.schema = encoded_schema(every)
        if not last:
            self.schema = self.schema.append(DECODED.field("pcm"))
        self.batch_s = options.batch_s or (GPU_BATCH_S if gpu else CPU_BATCH_S)
        self.options = options

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode each bundle by itself: what shares a batch is fixed by the plan, not by a run's timing."""
        rows = []
        for row in batch.to_pylist():
            row = dict.fromkeys(self.schema.names) | {"encoder_inputs": 0} | row
            self._encode(row)
            rows.append({name: row[name] for name in self.schema.names})
        return pa.Table.from_pylist(rows, schema=self.schema)

    @torch.inference_mode()
    def _encode(self, row: dict[str, Any]) -> None:
        """Add to a row what each model makes of its segments."""
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
        heard: dict[int, list[torch.Tensor]] = {}
        for key, model in self.models.items():
            rate = model.sample_rate
            if rate not in heard:
                heard[rate] = [resample(c, r, rate) for c, r in zip(clips, rates, strict=True)]
            if kind_of(key) == "alm":
                wanted = self.wanted[key]
                values, inputs = embed_clips(
                    model, heard[rate], wanted.audio_repeats, known=wanted.known, seeds=seeds, **how
                )
                row["encoder_inputs"] += inputs
            else:
                values, _ = classify_clips(model, heard[rate], **how)
            row[column_of(key)] = values.float().numpy().tobytes()
