"""Options of ``python -m dev.mini``, which rebuilds the models of the offline default."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, Words, option
from zsfuse_ray.errors import InputError, nearest

CORPORA = ("ravdess", "emodb", "nemo")
PARTS = ("text", "heads", "figures", "install")


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
        PARTS[:3], "parts to build, in this order; install copies the models into the package", "output"
    )
    leave_out: Words = option(
        (), "corpora left out of training, for zero-shot evaluation of a copy on them", "input"
    )
    seed: Annotated[int, Field(ge=0)] = option(
        0, "random seed; the same seed gives the same weights", "training"
    )

    def __post_init__(self) -> None:
        for name in ("corpora", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
        for option_name, values, valid in (
            ("parts", self.parts, PARTS),
            ("leave-out", self.leave_out, CORPORA),
        ):
            if unknown := next((value for value in values if value not in valid), None):
                raise InputError(f"--{option_name}: no {unknown}{nearest(unknown, valid)}")
        if set(self.leave_out) == set(CORPORA):
            raise InputError("--leave-out leaves no corpus to train on")
        if self.leave_out and "install" in self.parts:
            raise InputError("--leave-out copies are for evaluation and cannot be installed")
