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

    input: str = option(
        "demo",
        "archive that decode, encode and end are measured on, as zsfuse score takes it",
        "input",
        "PATH",
    )
    corpus: Words = option((), "labelled clips for search and naive, such as ravdess:FOLDER", "input")
    output: str = option(
        "",
        "folder for benchmark.json and benchmark.md; without it the table is only printed",
        "output",
        "FOLDER",
    )
    parts: Words = option(
        (),
        f"what is measured, of {','.join(PARTS)}; --corpus adds {','.join(ON_CLIPS)} to the default",
        "measurements",
    )
    repeats: Annotated[int, Field(ge=1, le=100)] = option(
        3, "repeats of every measurement but memory, which runs once", "measurements"
    )
    sample_s: Annotated[float, Field(gt=0)] = option(
        1800.0, "seconds of the archive that decode and encode are measured on", "measurements"
    )
    label_segments: Numbers = option(
        (200_000,), "numbers of segments of the random archives that label is measured on", "measurements"
    )
    scratch: str = option(
        "", "folder for the temporary tables of label; by default the system's", "output", "FOLDER"
    )
    templates: Annotated[int, Field(ge=2, le=17)] = option(
        16, "number of prompt templates that search, naive and memory choose from", "measurements"
    )
    naive_clips: Annotated[int, Field(ge=2)] = option(
        32, "clips that naive embeds anew for each configuration", "measurements"
    )
    naive_configurations: Annotated[int, Field(ge=1)] = option(
        5, "configurations that naive measures; the rest is extrapolated", "measurements"
    )
    memory_segments: Annotated[int, Field(ge=100)] = option(
        100_000, "random segments that memory searches on", "measurements"
    )
    memory_blocks: Annotated[int, Field(ge=1, le=16)] = option(
        2, "blocks (all subsets × 101 weights) that memory searches, of 16", "measurements"
    )
    memory_minutes: Annotated[float, Field(gt=0)] = option(
        4.0, "minutes after which memory stops the search and reports its progress", "measurements"
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
