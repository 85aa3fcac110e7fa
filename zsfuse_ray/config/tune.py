"""Options of ``jobs/tune.py``."""

from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.models import ModelOptions
from zsfuse_ray.config.options import CHECKED, Fraction, Repeats, Words, comma_separated, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method import labels as label_sets

MOST_TEMPLATES = 48

Temperatures = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1000)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, int | float) else comma_separated(value)),
    Field(min_length=1),
]
Ensembles = Annotated[
    tuple[Literal["embedding", "logit", "probability"], ...],
    BeforeValidator(comma_separated),
    Field(min_length=1),
]
Fusions = Annotated[
    tuple[Literal["linear", "loglinear"], ...], BeforeValidator(comma_separated), Field(min_length=1)
]
Separators = Annotated[
    tuple[str, ...],
    BeforeValidator(partial(comma_separated, separator="|", strip=False)),
    Field(min_length=1),
]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TuneConfig(ModelOptions):
    """Options of ``jobs/tune.py``: labelled clips, what is tried, how it is chosen."""

    preset_folder: ClassVar[str | None] = "models"
    default_preset: ClassVar[str | None] = "mini"

    input: Words = option(
        (), "manifests (csv, jsonl, parquet with columns uri, emotion, speaker), separated by commas"
    )
    corpus: Words = option((), "corpora as NAME:FOLDER, such as ravdess:FOLDER,emodb:FOLDER")
    splits: str | None = option(
        None, "csv of corpus, speaker, split, or mini, in place of the corpora's own splits"
    )
    output: str = option("", "folder or s3:// prefix for what is found")
    parts: Annotated[tuple[Literal["train", "dev", "test"], ...], BeforeValidator(comma_separated)] = option(
        ("dev",),
        "which parts of clips that have splits are chosen on; train where no model was trained on it",
    )
    labels: Words = option((), "only clips with these labels; by default all")
    folds: Annotated[int, Field(ge=3, le=50)] = option(
        5, "speaker-independent folds, each once the outer one"
    )
    audio_repeats: Repeats = option((1, 2, 3, 4), "a to choose from: copies of the audio")
    text_repeats: Repeats = option((1, 2, 3, 4), "b to choose from: copies of the prompt")
    separators: Separators = option((" ",), "between copies of a prompt, to choose from, divided by |")
    word_counts: Repeats = option((1,), "words a label is put into templates with, to choose from")
    ensembles: Ensembles = option(("embedding", "logit"), "ensemble rules to choose from")
    fusions: Fusions = option(("linear", "loglinear"), "fusion rules to choose from")
    temperatures: Temperatures = option((1.0,), "T to choose from")
    objective: Literal["ua", "wa", "macro_f1", "nll"] = option("ua", "what is to be best")
    choose: Literal["one_se", "best"] = option(
        "one_se", "the simplest configuration within one standard error of the best, or the best"
    )
    resamples: Annotated[int, Field(ge=100, le=100_000)] = option(
        2000, "draws of the bootstrap over speakers that gives the intervals"
    )
    max_reject_rate: Fraction = option(0.05, "share of clips that may fail before the job exits with 1")
    ray_address: str | None = option(
        None, "Ray cluster to join (auto: the one here); else RAY_ADDRESS, else an own Ray"
    )
    overwrite: bool = option(False, "delete another tuning in the output folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input and not self.corpus:
            raise InputError("labelled clips are needed: --input clips.csv, or --corpus ravdess:FOLDER")
        if not self.output:
            raise InputError("--output is needed, for example --output out")
        if bare := next((source for source in self.corpus if ":" not in source), None):
            raise InputError(f"--corpus {bare} names no folder, as in --corpus ravdess:FOLDER")
        if self.alm == "none":
            raise InputError("--alm none leaves nothing to tune; name an audio-language model")
        if len(self.templates) > MOST_TEMPLATES:
            raise InputError(f"{len(self.templates)} templates; at most {MOST_TEMPLATES} can be searched")
        if len(set(self.templates)) < len(self.templates):
            raise InputError("a template is there twice; keep one")
        # Amplification is measured against none.
        for name in ("audio_repeats", "text_repeats"):
            object.__setattr__(self, name, tuple(sorted({1, *getattr(self, name)})))
        # What is chosen from has names of its own: the ones of the models' options say nothing here.
        for name, instead in (
            ("words", "word-counts"),
            ("separator", "separators"),
            ("ensemble", "ensembles"),
        ):
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default:
                raise InputError(f"--{name} is chosen here: use --{instead}")
        if max(self.word_counts) > 1 and "probability" in self.ensembles:
            raise InputError("--ensembles probability takes --word-counts 1 only")
        for name in ("separators", "word_counts", "ensembles", "fusions", "temperatures"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        if self.labels:
            object.__setattr__(self, "labels", label_sets.label_set(self.labels))

    @property
    def sources(self) -> tuple[str, ...]:
        """Manifests and corpora, as ``corpora.load`` takes them."""
        return (*self.input, *self.corpus)


# Options that say where and with what the work is done; everything else decides what comes out.
OPERATIONAL = frozenset(
    {"output", "overwrite", "ray_address", "max_reject_rate", "resamples"}
    | {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
)
