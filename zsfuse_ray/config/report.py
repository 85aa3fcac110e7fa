"""Options of ``zsfuse report``."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, option
from zsfuse_ray.errors import InputError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ReportConfig(Options):
    """Options of ``zsfuse report``."""

    needed: ClassVar[Mapping[str, Any]] = {"run": "out"}

    run: str = option("", "output folder of zsfuse score", "input", "FOLDER")
    output: str = option("", "HTML file; by default report.html in the run", "output", "FILE")
    evaluation: str = option("", "output of zsfuse evaluate, to be shown too", "input", "FOLDER")
    tuning: str = option("", "output of zsfuse tune, to be shown too", "input", "FOLDER")
    sample: Annotated[int, Field(ge=0, le=1000)] = option(
        50, "random segments to check, from which the page estimates the accuracy", "output"
    )
    hardest: Annotated[int, Field(ge=0, le=1000)] = option(
        20, "least certain segments, and as many on which the models disagree most, to check", "output"
    )
    clips: Annotated[int, Field(ge=0, le=1000)] = option(
        90, "segments to check whose audio the page contains; the others play from their files", "output"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.run:
            raise InputError("--run is missing: name the output folder of zsfuse score")
