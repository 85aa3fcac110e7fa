"""Options of ``zsfuse plan`` and ``zsfuse score``, and what every run over an archive shares."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.label import LabellingOptions, SegmentOptions
from zsfuse_ray.config.models import OF_TABLE, EncoderOptions
from zsfuse_ray.config.options import CHECKED, DASHBOARD_HELP, RAY_ADDRESS_HELP, Fraction, option
from zsfuse_ray.errors import InputError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ArchiveOptions(SegmentOptions):
    """Options of every job over an archive: what to read, how to slice it, where to write."""

    needed: ClassVar[Mapping[str, Any]] = {"input": "demo", "output": "out"}

    input: str = option(
        "",
        "folder, file, glob, s3://, gs://, https:// or hf:// URI, manifest (csv, jsonl or parquet with a "
        "column uri), or demo",
        "input",
        "PATH",
    )
    output: str = option("", "folder, s3:// or gs:// prefix for the tables", "output", "FOLDER")
    ray_address: str | None = option(None, RAY_ADDRESS_HELP, "cluster", "ADDRESS")
    dashboard: bool = option(False, DASHBOARD_HELP, "cluster")
    overwrite: bool = option(False, "delete the tables of another run in the output folder", "output")
    prune: bool = option(
        False, "drop recordings that are no longer in the archive; without it they are kept", "output"
    )

    def __post_init__(self) -> None:
        for name in (self.source, "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed, for example --input demo --output out")
        super().__post_init__()

    @property
    def source(self) -> str:
        """The option that names the input."""
        return "input"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PlanConfig(EncoderOptions, ArchiveOptions):
    """Options of ``zsfuse plan``: an archive, and the models to measure on it."""

    preset_folder: ClassVar[str | None] = "models"

    measure: bool = option(
        False, "load the models and measure on a sample of the archive what they will take", "models"
    )
    price: Annotated[float, Field(ge=0)] | None = option(
        None,
        "money for an hour of what --measure measures on: a GPU, or a CPU core where there is none",
        "models",
    )

    def check_models(self) -> None:
        """InputError for options of models where none is measured: they would do nothing."""
        if self.measure:
            return
        if self.price is not None:
            raise InputError("--price is for what --measure measures: add --measure")
        for field in fields(EncoderOptions):
            if getattr(self, field.name) != field.default:
                name = field.name.replace("_", "-")
                raise InputError(f"--{name} does nothing here: a plan has no models; add --measure")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RunConfig(EncoderOptions, ArchiveOptions):
    """Options of a job that encodes an archive with the models: the plan's and the encoders'."""

    max_reject_rate: Fraction = option(
        0.05, "share of items that may fail before the job exits with 1", "input"
    )


# What decides the rows of encoded/, beside the archive, its items and the models.
ENCODING = ("vad", "min_segment_s", "max_segment_s", "vad_threshold", "long", "crop", "precision")
# What an embedding table has decided; it cannot be asked for with --embeddings.
DECIDED = ("item_s", *ENCODING)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ScoreConfig(LabellingOptions, RunConfig):
    """Options of ``zsfuse score``: what is encoded or read from a table, and how it is labelled."""

    embeddings: str | None = option(
        None,
        "output of zsfuse embed or score, in place of --input: no audio, no GPU; its models are the default",
        "input",
        "FOLDER",
    )
    keep_encoded: bool = option(
        True, "no deletes encoded/ at the end; other labels then need the audio again", "output"
    )

    def __post_init__(self) -> None:
        if self.input and self.embeddings:
            raise InputError("--input and --embeddings exclude each other: name an archive, or a table of it")
        super().__post_init__()

    @property
    def source(self) -> str:
        """The option that names the input: an archive, or an embedding table."""
        return "input" if self.embeddings is None else "embeddings"

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """With a table: its own models. InputError for an option that the table has decided."""
        if given.get("embeddings") is None:
            return {}
        if name := next((name for name in DECIDED if name in given), None):
            raise InputError(
                f"--{name.replace('_', '-')} does nothing with --embeddings: zsfuse embed has decided it"
            )
        return {"alm": OF_TABLE, "specialist": OF_TABLE}


# Options of where and with what the work is done; all others decide the result.
_WHERE = {"output", "overwrite", "ray_address", "dashboard"}
_WITH_WHAT = {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
OPERATIONAL = frozenset(_WHERE | _WITH_WHAT | {"max_reject_rate", "prune", "keep_encoded"})
