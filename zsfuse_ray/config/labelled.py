"""Options shared by the jobs on labelled clips: the clips, the models, the numbers of copies."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.models import OF_TABLE, EncoderOptions, PromptOptions
from zsfuse_ray.config.options import (
    CHECKED,
    DASHBOARD_HELP,
    RAY_ADDRESS_HELP,
    Fraction,
    Repeats,
    Words,
    option,
)
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import label_set


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LabelledOptions(PromptOptions, EncoderOptions):
    """Labelled clips, the settings to try on them, and the output."""

    preset_folder: ClassVar[str | None] = "models"
    default_preset: ClassVar[str | None] = "mini"

    needed: ClassVar[Mapping[str, Any]] = {"input": "clips.csv", "output": "out"}

    input: Words = option((), "manifests (csv, jsonl, parquet with columns uri, emotion, speaker)", "input")
    corpus: Words = option((), "corpora as NAME:FOLDER, such as ravdess:FOLDER,emodb:FOLDER", "input")
    embeddings: str | None = option(
        None,
        "instead of --input and --corpus: output of zsfuse embed or score on a manifest with emotions; its "
        "models are the default",
        "input",
        "FOLDER",
    )
    splits: str | None = option(
        None,
        "csv of corpus, speaker, split, or mini; replaces the splits and folds of the corpora",
        "input",
        "FILE",
    )
    output: str = option("", "folder, s3:// or gs:// prefix for tables and figures", "output", "FOLDER")
    normalise: Literal["auto", "none", "speaker"] = option(
        "auto",
        "normalise the specialist's vectors by the statistics of their speaker over all clips of a corpus, "
        "as score does; auto is speaker for a specialist that is trained for it, else none",
        "models",
    )
    labels: Words = option((), "use only clips with these labels; by default all", "input")
    audio_repeats: Repeats = option((1, 2, 3, 4), "values of a to choose from: copies of the audio", "search")
    text_repeats: Repeats = option((1, 2, 3, 4), "values of b to choose from: copies of the prompt", "search")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = option(
        2000, "bootstrap samples of the speakers for the 95 % intervals", "protocol"
    )
    max_reject_rate: Fraction = option(
        0.05, "share of clips that may fail before the job exits with 1", "input"
    )
    ray_address: str | None = option(None, RAY_ADDRESS_HELP, "cluster", "ADDRESS")
    dashboard: bool = option(False, DASHBOARD_HELP, "cluster")
    overwrite: bool = option(False, "delete the results of another run in the output folder", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embeddings and (self.input or self.corpus):
            raise InputError("--embeddings excludes --input and --corpus: give either a table or clips")
        if not (self.input or self.corpus or self.embeddings):
            raise InputError("labelled clips are needed: --input clips.csv, or --corpus ravdess:FOLDER")
        if not self.output:
            raise InputError("--output is needed, for example --output out")
        if bare := next((source for source in self.corpus if ":" not in source), None):
            raise InputError(f"--corpus {bare} names no folder, as in --corpus ravdess:FOLDER")
        # 1, no amplification, is the baseline
        for name in ("audio_repeats", "text_repeats"):
            object.__setattr__(self, name, tuple(sorted({1, *getattr(self, name)})))
        if self.labels:
            object.__setattr__(self, "labels", label_set(self.labels))

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """With --embeddings, the models of the table. InputError for an option that the table fixes."""
        if given.get("embeddings") is None:
            return {}
        if name := next((name for name in ("long", "crop", "precision") if name in given), None):
            raise InputError(f"--{name} has no effect with --embeddings: give it to zsfuse embed")
        return {"alm": OF_TABLE, "specialist": OF_TABLE}

    @property
    def sources(self) -> tuple[str, ...]:
        """Manifests and corpora, as arguments of ``corpora.load``."""
        return (*self.input, *self.corpus)
