"""Options of ``zsfuse export``."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Options, Words, option
from zsfuse_ray.errors import InputError

ALL = "all"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExportConfig(Options):
    """Options of ``zsfuse export``."""

    needed: ClassVar[Mapping[str, Any]] = {"run": "out", "format": ("csv",)}

    run: str = option("", "output folder of zsfuse score", "input", "FOLDER")
    format: Words = option(
        (),
        "formats, of csv, jsonl, audacity, vtt, srt, textgrid, elan, rttm, label-studio, audformat and "
        f"huggingface; or {ALL}",
        "output",
    )
    output: str = option("", "folder for the exports; by default exports/ in the run", "output", "FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.run:
            raise InputError("--run is missing: name the output folder of zsfuse score")
        if not any(self.format):
            raise InputError("--format is missing: name one or more formats, for example --format csv,vtt")
