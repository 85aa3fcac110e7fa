"""Encode segments with the models: actors on a GPU or a CPU."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import pyarrow as pa
import torch

from zsfuse_ray.archive.rows import DECODED, ENCODED, segment_seed
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec, load
from zsfuse_ray.models.encoding import Alm, Long, Specialist, classify_clips, embed_clips

GPU_BATCH_S = 320.0
CPU_BATCH_S = 40.0  # more is no faster there and takes more memory


@dataclass(frozen=True)
class EncodeOptions:
    """What an encoder actor needs to know."""

    audio_repeats: tuple[int, ...]
    long: Long
    crop: Literal["head", "seeded"]
    batch_s: float | None
    precision: Literal["auto", "float32", "bfloat16", "float16"]


class Encode:
    """Actor that holds one or both models: DECODED rows → the same rows with embeddings, logits, or both.

    In a pool of its own a model passes the audio on; ``last`` drops it.
    """

    def __init__(
        self,
        alm: ModelSpec | None,
        specialist: ModelSpec | None,
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
        # parse_spec has seen to it that each is of its kind
        self.alm = cast(Alm, load(alm, self.device, dtype)) if alm else None
        self.specialist = cast(Specialist, load(specialist, self.device, dtype)) if specialist else None
        self.batch_s = options.batch_s or (GPU_BATCH_S if gpu else CPU_BATCH_S)
        self.options = options
        self.last = last

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode each bundle by itself: what shares a batch is fixed by the plan, not by a run's timing."""
        rows = []
        for row in batch.to_pylist():
            row = {"embeddings": None, "logits": None, "encoder_inputs": 0} | row
            row |= self._encode(row["segments"], row["pcm"])
            rows.append({name: row[name] for name in self.schema.names})
        return pa.Table.from_pylist(rows, schema=self.schema)

    @property
    def schema(self) -> pa.Schema:
        """ENCODED, with the audio where another pool still needs it."""
        return ENCODED if self.last else ENCODED.append(DECODED.field("pcm"))

    @torch.inference_mode()
    def _encode(self, segments: Sequence[dict[str, Any]], pcm: bytes) -> dict[str, Any]:
        lengths, rates = [s["samples"] for s in segments], [s["sample_rate"] for s in segments]
        samples = (
            torch.frombuffer(bytearray(pcm), dtype=torch.int16).to(self.device) if pcm else torch.empty(0)
        )
        clips = samples.split(lengths) if lengths else ()
        options, done = self.options, {}
        if self.alm:
            heard = [resample(c, r, self.alm.sample_rate) for c, r in zip(clips, rates, strict=True)]
            seeds = (
                [segment_seed(s["item_id"], s["start_s"]) for s in segments]
                if options.crop == "seeded"
                else None
            )
            embeddings, done["encoder_inputs"] = embed_clips(
                self.alm,
                heard,
                options.audio_repeats,
                long=options.long,
                seeds=seeds,
                batch_s=self.batch_s,
            )
            done["embeddings"] = embeddings.float().numpy().tobytes()
        if self.specialist:
            heard = [resample(c, r, self.specialist.sample_rate) for c, r in zip(clips, rates, strict=True)]
            logits = classify_clips(self.specialist, heard, long=options.long, batch_s=self.batch_s)
            done["logits"] = logits.float().numpy().tobytes()
        return done
