"""Options of ``zsfuse reproduce``."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import (
    CHECKED,
    DASHBOARD_HELP,
    RAY_ADDRESS_HELP,
    Options,
    Repeats,
    Words,
    option,
)
from zsfuse_ray.errors import InputError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ReproduceConfig(Options):
    """The corpora and models of the paper's table, and the output."""

    needed: ClassVar[Mapping[str, Any]] = {"corpus": "ravdess:ravdess_folder", "output": "table"}

    corpus: Words = option(
        (), "corpora as NAME:FOLDER; those of the paper that are absent are marked", "input"
    )
    alms: Words = option(
        (
            "clap:laion/larger_clap_general",
            "reclap:base_rewritten.pt",
            "clsp:yfyeung/CLSP",
            "pooled-alm:mini",
        ),
        "audio-language models",
        "models",
        "MODEL,MODEL,…",
    )
    specialists: Words = option(
        (
            "classifier:microsoft/wavlm-base-plus",
            "classifier:microsoft/wavlm-large",
            "classifier:facebook/hubert-base-ls960",
            "classifier:facebook/hubert-large-ll60k",
            "pooled:mini",
        ),
        "speech models: a linear head is trained on the frozen vectors of each",
        "models",
        "MODEL,MODEL,…",
    )
    protocol: Literal["emobox", "loso", "split"] = option("emobox", "folds, as in evaluate", "protocol")
    seeds: Annotated[int, Field(ge=1, le=100)] = option(1, "trainings of each fold", "protocol")
    audio_repeats: Repeats = option((1, 2, 4), "values of a: copies of the audio", "search")
    text_repeats: Repeats = option((1, 2, 4), "values of b: copies of the prompt", "search")
    output: str = option("", "folder, s3:// or gs:// prefix for the table and its cells", "output", "FOLDER")
    ray_address: str | None = option(None, RAY_ADDRESS_HELP, "cluster", "ADDRESS")
    dashboard: bool = option(False, DASHBOARD_HELP, "cluster")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("corpus", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
        for name in ("alms", "specialists"):
            if "none" in getattr(self, name):
                raise InputError(f"--{name}: a cell of the table needs both models, none is not one")
