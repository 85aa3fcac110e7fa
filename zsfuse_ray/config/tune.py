"""Options of ``zsfuse tune``."""

from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import RULES_HELP, FusionName
from zsfuse_ray.config.options import CHECKED, Repeats, comma_separated, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import RULES

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
Fusions = Annotated[tuple[FusionName, ...], BeforeValidator(comma_separated), Field(min_length=1)]
Separators = Annotated[
    tuple[str, ...],
    BeforeValidator(partial(comma_separated, separator="|", strip=False)),
    Field(min_length=1),
]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TuneConfig(LabelledOptions):
    """Options of ``zsfuse tune``: labelled clips, what is tried, how it is chosen."""

    parts: Annotated[tuple[Literal["train", "dev", "test"], ...], BeforeValidator(comma_separated)] = option(
        ("dev",),
        "which parts of clips that have splits are chosen on; train where no model was trained on it",
    )
    folds: Annotated[int, Field(ge=3, le=50)] = option(
        5, "speaker-independent folds, each once the outer one"
    )
    separators: Separators = option((" ",), "between copies of a prompt, to choose from, divided by |")
    word_counts: Repeats = option((1,), "words a label is put into templates with, to choose from")
    ensembles: Ensembles = option(("embedding", "logit"), "ensemble rules to choose from")
    fusions: Fusions = option(tuple(RULES), f"fusion rules to choose from: {RULES_HELP}")
    temperatures: Temperatures = option((1.0,), "T to choose from")
    objective: Literal["ua", "wa", "macro_f1", "nll"] = option("ua", "what is to be best")
    choose: Literal["one_se", "best"] = option(
        "one_se", "the simplest configuration within one standard error of the best, or the best"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alm == "none":
            raise InputError("--alm none leaves nothing to tune; name an audio-language model")
        if len(self.templates) > MOST_TEMPLATES:
            raise InputError(f"{len(self.templates)} templates; at most {MOST_TEMPLATES} can be searched")
        if len(set(self.templates)) < len(self.templates):
            raise InputError("a template is there twice; keep one")
        # What is chosen from has options of its own; those of one model's run have no effect here.
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


# Options of where and with what the work is done; all others decide the result.
OPERATIONAL = frozenset(
    {"output", "overwrite", "ray_address", "dashboard", "max_reject_rate", "resamples"}
    | {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
)
