"""What the jobs that measure on labelled clips share: the clips, the models, the numbers of copies."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.models import OF_TABLE, ModelOptions
from zsfuse_ray.config.options import CHECKED, Fraction, Repeats, Words, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import label_set


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LabelledOptions(ModelOptions):
    """Labelled clips, what is tried on them, and where the results go."""

    preset_folder: ClassVar[str | None] = "models"
    default_preset: ClassVar[str | None] = "mini"

    input: Words = option(
        (), "manifests (csv, jsonl, parquet with columns uri, emotion, speaker), separated by commas"
    )
    corpus: Words = option((), "corpora as NAME:FOLDER, such as ravdess:FOLDER,emodb:FOLDER")
    embeddings: str | None = option(
        None, "embedding table of zsfuse embed over labelled clips, in place of --input and --corpus"
    )
    splits: str | None = option(
        None, "csv of corpus, speaker, split, or mini, in place of the corpora's own splits and folds"
    )
    output: str = option("", "folder or s3:// prefix for tables and figures")
    labels: Words = option((), "only clips with these labels; by default all")
    audio_repeats: Repeats = option((1, 2, 3, 4), "a to choose from: copies of the audio")
    text_repeats: Repeats = option((1, 2, 3, 4), "b to choose from: copies of the prompt")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = option(
        2000, "draws of the bootstrap over speakers that gives the intervals"
    )
    max_reject_rate: Fraction = option(0.05, "share of clips that may fail before the job exits with 1")
    ray_address: str | None = option(
        None, "Ray cluster to join (auto: the one here); else RAY_ADDRESS, else an own Ray"
    )
    dashboard: bool = option(False, "start an own Ray with its dashboard, and print where it is")
    overwrite: bool = option(False, "delete what an earlier run of this job left in the output folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embeddings and (self.input or self.corpus):
            raise InputError("--embeddings excludes --input and --corpus: name clips, or a table of them")
        if not (self.input or self.corpus or self.embeddings):
            raise InputError("labelled clips are needed: --input clips.csv, or --corpus ravdess:FOLDER")
        if not self.output:
            raise InputError("--output is needed, for example --output out")
        if bare := next((source for source in self.corpus if ":" not in source), None):
            raise InputError(f"--corpus {bare} names no folder, as in --corpus ravdess:FOLDER")
        # amplification is measured against none
        for name in ("audio_repeats", "text_repeats"):
            object.__setattr__(self, name, tuple(sorted({1, *getattr(self, name)})))
        if self.labels:
            object.__setattr__(self, "labels", label_set(self.labels))

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """With a table: its own models. InputError for an option that the table has decided."""
        if given.get("embeddings") is None:
            return {}
        if name := next((name for name in ("long", "crop", "precision") if name in given), None):
            raise InputError(f"--{name} does nothing with --embeddings: zsfuse embed has decided it")
        return {"alm": OF_TABLE, "specialist": OF_TABLE}

    @property
    def sources(self) -> tuple[str, ...]:
        """Manifests and corpora, as ``corpora.load`` takes them."""
        return (*self.input, *self.corpus)
