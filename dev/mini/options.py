"""Options of ``python -m dev.mini``, which builds the offline default anew."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, Words, option
from zsfuse_ray.errors import InputError, nearest

CORPORA = ("ravdess", "emodb", "nemo")
PARTS = ("text", "specialist", "alm", "figures", "install")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MiniConfig(Options):
    """Which corpora, where to, and which parts."""

    needed: ClassVar[Mapping[str, Any]] = {"corpora": "corpora", "output": "build"}

    corpora: str = option(
        "", "folder that holds ravdess, emodb and nemo, each as published", "input", "FOLDER"
    )
    output: str = option("", "folder for models, checkpoints and figures", "output", "FOLDER")
    parts: Words = option(
        PARTS[:4], "what to make, in this order; install copies the models into the package", "output"
    )
    leave_out: Words = option(
        (), "corpora that nothing is trained on, to measure a copy on them zero-shot", "input"
    )
    epochs: Annotated[int, Field(ge=0)] = option(
        0, "epochs of both trainings; 0 takes those of their recipes", "training"
    )
    seed: Annotated[int, Field(ge=0)] = option(
        0, "seed of everything random; the same seed gives the same weights", "training"
    )

    def __post_init__(self) -> None:
        for name in ("corpora", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
        for option_name, values, known in (
            ("parts", self.parts, PARTS),
            ("leave-out", self.leave_out, CORPORA),
        ):
            if strange := next((value for value in values if value not in known), None):
                raise InputError(f"--{option_name}: no {strange}{nearest(strange, known)}")
        if set(self.leave_out) == set(CORPORA):
            raise InputError("--leave-out leaves no corpus to train on")
        if self.leave_out and "install" in self.parts:
            raise InputError("--leave-out makes copies for measuring; they are not installed")
