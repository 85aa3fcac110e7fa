"""Options of ``python -m dev.mini``, which builds the offline default anew."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, Words, option
from zsfuse_ray.errors import InputError, nearest

CORPORA = ("ravdess", "emodb", "nemo")
PARTS = ("text", "specialist", "alm", "figures", "install")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MiniConfig(Options):
    """Which corpora, where to, and which parts."""

    corpora: str = option("", "folder that holds ravdess, emodb and nemo, each as published")
    output: str = option("", "folder for models, checkpoints and figures")
    parts: Words = option(
        PARTS[:4], "what to make, in this order; install copies the models into the package"
    )
    leave_out: Words = option((), "corpora that nothing is trained on, to measure a copy on them zero-shot")
    epochs: Annotated[int, Field(ge=0)] = option(0, "of both trainings; 0 is what their recipes have")
    seed: Annotated[int, Field(ge=0)] = option(0, "same seed, same weights")

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
