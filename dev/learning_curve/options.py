"""Options of ``python -m dev.learning_curve``."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, option
from zsfuse_ray.errors import InputError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LearningCurveConfig(Options):
    """Corpora, output folders and the size of the experiment."""

    needed: ClassVar[Mapping[str, Any]] = {"corpora": "corpora", "vectors": "build", "output": "docs"}

    corpora: str = option(
        "", "folder with the corpora ravdess, emodb and nemo, each as published", "input", "FOLDER"
    )
    vectors: str = option(
        "", "folder for the vectors of the clips; those that are there are used", "input", "FOLDER"
    )
    output: str = option("", "folder for when_it_pays.json and the figure", "output", "FOLDER")
    draws: Annotated[int, Field(ge=2, le=1000)] = option(
        10, "draws of test speakers and labelled speakers", "protocol"
    )
    per_speaker: Annotated[int, Field(ge=10)] = option(
        60, "maximum clips of a speaker of the target corpus, drawn at random", "protocol"
    )
    repeated_per_speaker: Annotated[int, Field(ge=5)] = option(
        10,
        "maximum clips of a speaker for the amplification grid, which encodes the audio of nine more",
        "protocol",
    )
    resamples: Annotated[int, Field(ge=100, le=100_000)] = option(
        2000, "bootstrap samples of the speakers for the 95 % intervals", "protocol"
    )
    processes: Annotated[int, Field(ge=1)] = option(1, "draws that are computed at once", "cluster")
    seed: Annotated[int, Field(ge=0)] = option(0, "random seed of the draws and of the ALM", "training")

    def __post_init__(self) -> None:
        for name in ("corpora", "vectors", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
