"""Encode segments with the models: actors on a GPU or a CPU."""

import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import torch

from zsfuse_ray.archive.packing import pack_embeddings, pack_values
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.schemas import DECODED, encoded_schema, kind_of, model_columns, segment_seed
from zsfuse_ray.archive.stages.attempts import counted, failure, item_by_item, uncounted
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import same_as
from zsfuse_ray.models.batching import Halved
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


_TOO_LARGE = "segments do not fit into the memory of the GPU; the others are labelled"
_Clip = tuple[dict[str, Any], torch.Tensor]  # a segment and its samples, int16


@dataclass
class _Outputs:
    """Outputs for some segments: by model (embeddings, known repeats) or (logits, vectors).

    lost: number of these segments that do not fit into the GPU's memory; their outputs are NaN.
    """

    of_models: dict[str, tuple[torch.Tensor, Any]]
    inputs: int = 0
    lost: int = 0


class Encode:
    """Actor with loaded models: DECODED rows → the same rows with `encoded_schema`'s columns of its models.

    models: those of this actor, by their names in tables; every: the names of all models of the pass. With
    several pools, each passes the audio on; the last pool drops it, unless keep_audio, and reports each
    bundle to the tally. Bundles whose encoding fails or kills the actor are encoded item by item, to find
    the one to reject.
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
        self.tally, self.reports_rows = tally, last
        self.halved = Halved()
        self.attempt = uncounted if tally is None else counted(tally)
        self.batch_s = options.batch_s or (GPU_BATCH_S if gpu else CPU_BATCH_S)
        self.options = options
        if gpu:  # with a broken one, every input would fail
            self._check()

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

            report(self.tally, done if self.reports_rows else None, self.halved.batches)
            self.halved.batches = 0
        return done

    @torch.inference_mode()
    def _encode(self, row: dict[str, Any]) -> None:
        """Add each model's outputs for the segments to the row; NaN for those of an item that failed."""
        lengths = [segment["samples"] for segment in row["segments"]]
        pcm = row["pcm"]
        samples = (
            torch.frombuffer(bytearray(pcm), dtype=torch.int16).to(self.device) if pcm else torch.empty(0)
        )
        items: dict[int, list[_Clip]] = {}
        for segment, clip in zip(row["segments"], samples.split(lengths) if lengths else (), strict=True):
            items.setdefault(segment["item_id"], []).append((segment, clip))
        found, failures = item_by_item(
            f"encode {','.join(self.models)} {row['bundle_id']}",
            items,
            self._of_items,
            self.attempt,
            self._failed,
        )
        parts = [
            self._nothing(len(clips)) if one is None else one
            for one, clips in zip(found, items.values() if len(found) == len(items) else [()], strict=True)
        ]
        if len(parts) == len(items):
            for (item_id, clips), one in zip(items.items(), parts, strict=True):
                if one.lost:
                    failures[item_id] = failure(
                        "encode", "out_of_memory", f"{one.lost} of {len(clips)} {_TOO_LARGE}"
                    )
        for item in row["items"]:
            item |= failures.get(item["item_id"], {})
        row["encoder_inputs"] += sum(part.inputs for part in parts)
        for key, (values, other) in self._joined(parts).of_models.items():
            first, second = model_columns(key)
            stacked = values.float().numpy()
            if kind_of(key) == "alm":
                row[first], row[second] = pack_embeddings(stacked, other)
            else:
                row[first] = pack_values(stacked)
                row[second] = pack_values(None if other is None else other.float().numpy())

    def _of_items(self, items: Sequence[Sequence[_Clip]]) -> _Outputs:
        """The outputs for items; of one whose segments do not all fit, for those that fit alone."""
        clips = [clip for item in items for clip in item]
        try:
            return self._outputs(clips)
        except torch.cuda.OutOfMemoryError:
            if len(items) > 1 or len(clips) == 1:
                raise
        found = [self._if_it_fits(clip) for clip in clips]
        if all(one.lost for one in found):
            return self._outputs(clips)  # raises as before
        return self._joined(found)

    def _if_it_fits(self, clip: _Clip) -> _Outputs:
        try:
            return self._outputs([clip])
        except torch.cuda.OutOfMemoryError:
            return replace(self._nothing(1), lost=1)

    def _joined(self, parts: Sequence[_Outputs]) -> _Outputs:
        of_models: dict[str, tuple[torch.Tensor, Any]] = {}
        for key in self.models:
            values, others = zip(*(part.of_models[key] for part in parts), strict=True)
            other: Any = None
            if others[0] is not None:
                places = [place for part in others for place in part]
                other = places if kind_of(key) == "alm" else torch.cat(others)
            of_models[key] = torch.cat(values), other
        return _Outputs(of_models, *(sum(getattr(p, name) for p in parts) for name in ("inputs", "lost")))

    def _outputs(self, clips: Sequence[_Clip]) -> _Outputs:
        """The outputs of every model for these segments."""
        rates = [segment["sample_rate"] for segment, _ in clips]
        seeds = None
        if self.options.crop == "seeded":
            seeds = [segment_seed(segment["item_id"], segment["start_s"]) for segment, _ in clips]
        how: Any = {"long": self.options.long, "batch_s": self.batch_s, "halved": self.halved}
        resampled: dict[int, list[torch.Tensor]] = {}
        outputs = _Outputs({})
        for key, model in self.models.items():
            rate = model.sample_rate
            if rate not in resampled:
                resampled[rate] = [resample(c, r, rate) for (_, c), r in zip(clips, rates, strict=True)]
            if kind_of(key) == "alm":
                task = self.tasks[key]
                values, inputs = embed_clips(
                    model, resampled[rate], task.audio_repeats, known=task.known, seeds=seeds, **how
                )
                known = self._known(model, task, resampled[rate], seeds) if task.known else None
                outputs.of_models[key] = values, known
                outputs.inputs += inputs
            else:
                outputs.of_models[key] = classify_clips(model, resampled[rate], **how)
        return outputs

    def _nothing(self, n: int) -> _Outputs:
        """NaN as the outputs for n segments."""
        outputs = _Outputs({})
        for key, model in self.models.items():
            task = self.tasks[key]
            if kind_of(key) == "alm":
                values = torch.full((n, len(task.audio_repeats), model.dim), torch.nan)
                known = [[None] * len(task.audio_repeats)] * n if task.known else None
                outputs.of_models[key] = values, known
            else:
                vectors = None if model.vector_dim is None else torch.full((n, model.vector_dim), torch.nan)
                outputs.of_models[key] = torch.full((n, len(model.labels)), torch.nan), vectors
        return outputs

    def _failed(self, error: Exception) -> dict[str, Any]:
        """The failure for an error of a model, which is raised again if the model fails for any audio."""
        if isinstance(error, InputError | ImportError):
            raise error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            self._check()
        except Exception:
            if self.device.type == "cuda":  # unusable until its process ends, as after an assertion on it
                traceback.print_exception(error)
                os._exit(1)  # Ray starts another actor, and the attempts at this input are counted
            raise error from None
        memory = isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate" in str(
            error
        )
        reason = "out_of_memory" if memory else "failed"
        return failure("encode", reason, f"{type(error).__name__}: {error}")

    @torch.inference_mode()
    def _check(self) -> None:
        """Encode a second of noise: raises the models' error if they cannot encode anything at all."""
        noise = torch.randint(-3000, 3000, (16_000,), generator=torch.Generator().manual_seed(0))
        segment = {"item_id": 0, "start_s": 0.0, "sample_rate": 16_000}
        self._outputs([(segment, noise.to(self.device, torch.int16))])

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
