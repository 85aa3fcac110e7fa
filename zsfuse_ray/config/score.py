"""Options of ``jobs/plan.py`` and ``jobs/score.py``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.audio.segment import GRID_S, Segmentation, Vad
from zsfuse_ray.config.models import ModelOptions
from zsfuse_ray.config.options import CHECKED, Fraction, Options, Words, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method import labels as label_sets


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PlanConfig(Options):
    """Options of ``jobs/plan.py``: what to read and how to slice it."""

    input: str = option(
        "", "folder, file, glob, s3:// prefix, manifest (csv, jsonl, parquet with a column uri), or demo"
    )
    output: str = option("", "folder or s3:// prefix for the tables")
    item_s: float = option(
        300.0, f"seconds of a recording that are scheduled as one; a multiple of {GRID_S:g}"
    )
    vad: Vad = option(
        "silero", "silero finds speech; none takes windows without their silent edges: for ready-cut clips"
    )
    min_segment_s: float = option(0.5, "shortest segment in seconds")
    max_segment_s: float = option(10.0, "longest segment in seconds")
    vad_threshold: Fraction = option(0.5, "speech probability at which a segment starts")
    ray_address: str | None = option(
        None, "Ray cluster to join (auto: the one here); else RAY_ADDRESS, else an own Ray"
    )
    overwrite: bool = option(False, "delete another run's tables in the output folder")

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed, for example --input demo --output out")
        if self.item_s < GRID_S or self.item_s % GRID_S:
            raise InputError(f"--item-s must be a multiple of {GRID_S:g} seconds, not {self.item_s:g}")
        if not 0.1 <= self.min_segment_s <= self.max_segment_s / 2:
            raise InputError("--min-segment-s must lie between 0.1 and half of --max-segment-s")
        if not 1 <= self.max_segment_s <= 60:
            raise InputError(f"--max-segment-s must lie between 1 and 60 seconds, not {self.max_segment_s:g}")

    @property
    def segmentation(self) -> Segmentation:
        """The voice activity options in the form the audio code takes."""
        return Segmentation(self.vad, self.min_segment_s, self.max_segment_s, self.vad_threshold)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ScoreConfig(ModelOptions, PlanConfig):
    """Options of ``jobs/score.py``: the plan's, the models', and how their posteriors become labels."""

    preset_folder: ClassVar[str | None] = "score"
    default_preset: ClassVar[str | None] = "mini"

    labels: Words = option(
        label_sets.CORPORA["emodb"], "label set, separated by commas, or the name of a corpus"
    )
    temperature: Annotated[float, Field(gt=0)] = option(1.0, "T of the ALM's softmax")
    fusion: Literal["linear", "loglinear"] = option("linear", "how the two posteriors are combined")
    weight: Fraction = option(0.5, "w: share of the ALM; 0 is the specialist alone")
    max_reject_rate: Fraction = option(0.05, "share of items that may fail before the job exits with 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = label_sets.CORPORA.get(self.labels[0], self.labels) if len(self.labels) == 1 else self.labels
        object.__setattr__(self, "labels", label_sets.label_set(names))


# Options that say where and with what the work is done; everything else decides what comes out.
_WHERE = {"output", "overwrite", "ray_address"}
_WITH_WHAT = {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
OPERATIONAL = frozenset(_WHERE | _WITH_WHAT | {"max_reject_rate"})
