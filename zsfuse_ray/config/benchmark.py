"""Options of ``zsfuse benchmark``."""

from dataclasses import fields
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.config.options import CHECKED, Numbers, Words, option
from zsfuse_ray.errors import InputError, nearest

# What can be measured, in the order it is measured in.
PARTS = ("decode", "encode", "end", "label", "search", "naive", "memory")
ON_CLIPS = ("search", "naive")
USUAL = PARTS[:4]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class BenchmarkConfig(EncoderOptions):
    """Options of ``zsfuse benchmark``: what is measured, on what, how often. The models' are as in a run."""

    preset_folder: ClassVar[str | None] = "models"
    default_preset: ClassVar[str | None] = "mini"

    input: str = option("demo", "archive that decode, encode and end are measured on, as score takes it")
    corpus: Words = option((), "labelled clips of search and naive, such as ravdess:FOLDER")
    output: str = option(
        "", "folder for benchmark.json and benchmark.md; without it the table is printed only"
    )
    parts: Words = option(
        (),
        f"of {','.join(PARTS)}; by default {','.join(USUAL)}, and with --corpus {','.join(ON_CLIPS)}",
    )
    repeats: Annotated[int, Field(ge=1, le=100)] = option(3, "times everything is measured; memory once")
    sample_s: Annotated[float, Field(gt=0)] = option(
        1800.0, "seconds of the archive that decode and encode are measured on"
    )
    label_segments: Numbers = option(
        (200_000,), "segments of the archives of random values that label is measured on"
    )
    scratch: str = option("", "folder for the temporary tables of label; by default the system's")
    templates: Annotated[int, Field(ge=2, le=17)] = option(
        16, "prompt templates that search, naive and memory have to choose from"
    )
    naive_clips: Annotated[int, Field(ge=2)] = option(32, "clips that naive embeds anew")
    naive_configurations: Annotated[int, Field(ge=1)] = option(5, "configurations of naive, each time anew")
    memory_segments: Annotated[int, Field(ge=100)] = option(100_000, "segments of memory's random evidence")
    memory_blocks: Annotated[int, Field(ge=1, le=16)] = option(
        2, "whole blocks (all subsets × 101 weights) that memory searches, of 16"
    )
    memory_minutes: Annotated[float, Field(gt=0)] = option(
        4.0, "minutes after which memory stops the search and reports its progress"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if strange := next((part for part in self.parts if part not in PARTS), None):
            raise InputError(f"--parts: no {strange}{nearest(strange, PARTS)}")
        chosen = self.parts or (*USUAL, *(ON_CLIPS if self.corpus else ()))
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in chosen))
        if not self.corpus and (asked := next((part for part in self.parts if part in ON_CLIPS), None)):
            raise InputError(f"--parts {asked} is measured on labelled clips: add --corpus ravdess:FOLDER")
        if bare := next((source for source in self.corpus if ":" not in source), None):
            raise InputError(f"--corpus {bare} names no folder, as in --corpus ravdess:FOLDER")
        if self.alm == "none" and (asked := next((part for part in self.parts if part in ON_CLIPS), None)):
            raise InputError(f"--alm none leaves nothing to search for --parts {asked}")
        if self.specialist == "none" and "naive" in self.parts:
            raise InputError("--specialist none leaves nothing to fuse for --parts naive")

    @property
    def encoder_options(self) -> dict[str, Any]:
        """Models and encoders as another job's YAML file of options takes them."""
        given = {field.name: getattr(self, field.name) for field in fields(EncoderOptions)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }
