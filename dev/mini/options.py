"""Options of ``python -m dev.mini``, which rebuilds the models of the offline default."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, Words, comma_separated, option
from zsfuse_ray.errors import InputError, nearest

CORPORA = ("ravdess", "emodb", "nemo")
PARTS = ("text", "heads", "figures", "evidence", "install")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MiniConfig(Options):
    """Corpora, output folder and parts."""

    needed: ClassVar[Mapping[str, Any]] = {"corpora": "corpora", "output": "build"}

    corpora: str = option(
        "", "folder with the corpora ravdess, emodb and nemo, each as published", "input", "FOLDER"
    )
    init: str = option(
        "openai/whisper-base",
        "Whisper model, or its encoder, whose first layers are the trunk",
        "models",
        "MODEL",
    )
    output: str = option("", "folder for models, checkpoints and figures", "output", "FOLDER")
    parts: Words = option(
        PARTS[:3], "parts to build, in this order; install copies the model into the package", "output"
    )
    untrained: Words = option(
        (), "corpora that the part evidence only measures on, such as metadata:FOLDER", "input"
    )
    seeds: Annotated[tuple[int, ...], BeforeValidator(comma_separated), Field(min_length=1)] = option(
        (0, 1, 2), "random seeds of the part evidence", "training"
    )
    seed: Annotated[int, Field(ge=0)] = option(
        0, "random seed; the same seed gives the same weights", "training"
    )

    def __post_init__(self) -> None:
        for name in ("corpora", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
        if unknown := next((part for part in self.parts if part not in PARTS), None):
            raise InputError(f"--parts: no {unknown}{nearest(unknown, PARTS)}")
