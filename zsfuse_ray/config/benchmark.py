"""Options of ``zsfuse benchmark``."""

from dataclasses import fields
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.config.options import CHECKED, Numbers, Words, option
from zsfuse_ray.errors import InputError, nearest

# All measurements, in the order in which they run.
PARTS = ("decode", "encode", "end", "label", "search", "naive", "memory", "plan")
ON_CLIPS = ("search", "naive")
USUAL = PARTS[:4]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class BenchmarkConfig(EncoderOptions):
    """Options of ``zsfuse benchmark``: measurements, data, repeats, and the models as in a run."""

    preset_folder: ClassVar[str | None] = "models"
    default_preset: ClassVar[str | None] = "mini"

    input: str = option(
        "demo",
        "archive for decode, encode and end, as in zsfuse score",
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
        f"measurements to run, of {','.join(PARTS)}; --corpus adds {','.join(ON_CLIPS)} to the default",
        "measurements",
    )
    repeats: Annotated[int, Field(ge=1, le=100)] = option(
        3, "repeats of every measurement except memory, which runs once", "measurements"
    )
    sample_s: Annotated[float, Field(gt=0)] = option(
        1800.0, "seconds of the archive for decode and encode", "measurements"
    )
    label_segments: Numbers = option(
        (200_000,), "numbers of segments of the random archives for label", "measurements"
    )
    plan_recordings: Numbers = option((1_000_000,), "numbers of random recordings for plan", "measurements")
    scratch: str = option(
        "",
        "folder for the temporary tables of label and plan; by default the system's",
        "output",
        "FOLDER",
    )
    templates: Annotated[int, Field(ge=2, le=17)] = option(
        16, "number of prompt templates that search, naive and memory choose from", "measurements"
    )
    naive_clips: Annotated[int, Field(ge=2)] = option(
        32, "clips that naive encodes again for each configuration", "measurements"
    )
    naive_configurations: Annotated[int, Field(ge=1)] = option(
        5, "configurations that naive measures; the rest is extrapolated", "measurements"
    )
    memory_segments: Annotated[int, Field(ge=100)] = option(
        100_000, "number of random segments for memory", "measurements"
    )
    memory_blocks: Annotated[int, Field(ge=1, le=16)] = option(
        2, "blocks (all subsets × 101 weights) that memory searches, of 16", "measurements"
    )
    memory_minutes: Annotated[float, Field(gt=0)] = option(
        4.0, "minutes after which memory stops the search and reports its progress", "measurements"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := next((part for part in self.parts if part not in PARTS), None):
            raise InputError(f"--parts: no part {unknown}{nearest(unknown, PARTS)}")
        chosen = self.parts or (*USUAL, *(ON_CLIPS if self.corpus else ()))
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in chosen))
        search = next((part for part in self.parts if part in ON_CLIPS), None)
        if search and not self.corpus:
            raise InputError(f"--parts {search} needs labelled clips: add --corpus ravdess:FOLDER")
        if bare := next((source for source in self.corpus if ":" not in source), None):
            raise InputError(f"--corpus {bare} names no folder, as in --corpus ravdess:FOLDER")
        if search and self.alm == "none":
            raise InputError(f"--parts {search} needs an audio-language model: name one with --alm")
        if self.specialist == "none" and "naive" in self.parts:
            raise InputError("--parts naive needs a specialist: name one with --specialist")

    @property
    def encoder_options(self) -> dict[str, Any]:
        """The model and encoder options, as values for another job's YAML file."""
        given = {field.name: getattr(self, field.name) for field in fields(EncoderOptions)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }
