"""Options of ``zsfuse plan`` and ``zsfuse score``, and those shared by every run over an archive."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.label import LabellingOptions, SegmentOptions
from zsfuse_ray.config.models import OF_TABLE, EncoderOptions
from zsfuse_ray.config.options import CHECKED, DASHBOARD_HELP, RAY_ADDRESS_HELP, Fraction, Words, option
from zsfuse_ray.config.prior import check_shares, read_shares
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.prior import Prior


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ArchiveOptions(SegmentOptions):
    """Options of every job over an archive: input, segmentation, output."""

    needed: ClassVar[Mapping[str, Any]] = {"input": "demo", "output": "out"}

    input: str = option(
        "",
        "folder, file, glob, s3://, gs://, https:// or hf:// URI, manifest (csv, tsv, jsonl, NeMo's "
        "json or parquet with a column uri), or demo",
        "input",
        "PATH",
    )
    allow_hosts: Words = option(
        (),
        "only addresses that a manifest may name: schemes, hosts or buckets, such as s3://bucket,example.org,"
        "file:// (local paths); by default any",
        "input",
        "HOSTS",
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
        False, "run the models on a sample of the archive, and estimate their time for all of it", "models"
    )
    price: Annotated[float, Field(ge=0)] | None = option(
        None,
        "price per hour of a GPU (without GPUs, of a CPU core), for the cost estimate of --measure",
        "models",
    )

    def check_models(self) -> None:
        """InputError for model options without --measure: they would have no effect."""
        if self.measure:
            return
        if self.price is not None:
            raise InputError("--price has no effect without --measure: add it")
        for field in fields(EncoderOptions):
            if getattr(self, field.name) != field.default:
                name = field.name.replace("_", "-")
                raise InputError(f"--{name} has no effect on a plan without --measure: add it")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RunConfig(EncoderOptions, ArchiveOptions):
    """Options of a job that encodes an archive: those of the plan and of the encoders."""

    max_reject_rate: Fraction = option(
        0.05, "share of items that may fail before the job exits with 1", "input"
    )
    limit_hours: Annotated[float, Field(gt=0)] | None = option(
        None,
        "encode and label only the first hours of the plan; the same command without it, or with more, "
        "continues",
        "input",
        "HOURS",
    )
    dry_run: bool = option(
        False, "only print what would be planned, encoded and labelled; writes nothing", "output"
    )


# Options that decide the rows of encoded/, besides the archive, its items and the models.
ENCODING = (
    *("vad", "min_segment_s", "max_segment_s", "vad_threshold", "channels"),
    *("long", "crop", "precision"),
)
# Options fixed by an embedding table; refused with --embeddings.
DECIDED = ("item_s", "speakers", *ENCODING)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ScoreConfig(LabellingOptions, RunConfig):
    """Options of ``zsfuse score``: what is encoded or read from a table, and how it is labelled."""

    embeddings: str | None = option(
        None,
        "instead of --input: output of zsfuse embed or score; needs no audio or GPU; its models are the "
        "default",
        "input",
        "FOLDER",
    )
    keep_encoded: bool = option(
        True, "no deletes encoded/ at the end; other labels then need the audio again", "output"
    )
    prior: str | dict[str, float] = option(
        "none",
        "correct a preference of the models for some labels: shift the ALM's and the fused posteriors until "
        "their mean by speech time is uniform, or has the shares of a YAML file (label: share); only with "
        "shares that are known: uniform does harm where labels are not equally frequent, such as in mostly "
        "neutral speech",
        "fusion",
        "{none,uniform,FILE}",
    )
    prior_strength: Fraction = option(
        1.0, "share of the correction of --prior that is applied; 0 changes nothing", "fusion"
    )

    def __post_init__(self) -> None:
        if self.input and self.embeddings:
            raise InputError("--input and --embeddings exclude each other: give either an archive or a table")
        if self.embeddings and self.limit_hours:
            raise InputError("--limit-hours has no effect with --embeddings: give it to zsfuse embed")
        if self.embeddings and self.dry_run:
            raise InputError("--dry-run is for an archive: give --input instead of --embeddings")
        super().__post_init__()
        if isinstance(self.prior, dict):
            object.__setattr__(self, "prior", check_shares(self.prior, self.labels, "--prior"))
        elif self.prior not in ("none", "uniform"):
            object.__setattr__(self, "prior", read_shares(self.prior, self.labels))
        if self.prior == "none" and self.prior_strength != 1:
            raise InputError("--prior-strength has no effect without --prior: add it")

    @property
    def source(self) -> str:
        """The option that names the input: an archive, or an embedding table."""
        return "input" if self.embeddings is None else "embeddings"

    @property
    def wanted_prior(self) -> Prior | None:
        """The wanted shares of the labels, None for those that the models give."""
        if self.prior == "none":
            return None
        equal = dict.fromkeys(self.labels, 1 / len(self.labels))
        shares = self.prior if isinstance(self.prior, dict) else equal
        return Prior(np.array([shares[label] for label in self.labels]), self.prior_strength)

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """With --embeddings, the models of the table. InputError for an option that the table fixes."""
        usual = super().usual(given)
        if given.get("embeddings") is None:
            return usual
        if name := next((name for name in DECIDED if name in given), None):
            raise InputError(
                f"--{name.replace('_', '-')} has no effect with --embeddings: give it to zsfuse embed"
            )
        return usual | {"alm": OF_TABLE, "specialist": OF_TABLE}


# Options of output and resources; all others decide the result.
_WHERE = {"output", "overwrite", "ray_address", "dashboard"}
_WITH_WHAT = {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
OPERATIONAL = frozenset(
    _WHERE | _WITH_WHAT | {"max_reject_rate", "prune", "keep_encoded", "allow_hosts", "dry_run"}
)
