"""Options of ``zsfuse tune``."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import RULE_NAMES, RULES_HELP, RuleName
from zsfuse_ray.config.options import CHECKED, Repeats, Temperature, comma_separated, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import RULES

MOST_TEMPLATES = 48

Temperatures = Annotated[
    tuple[Temperature, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, int | float) else comma_separated(value)),
]
Ensembles = Annotated[
    tuple[Literal["embedding", "logit", "probability"], ...],
    BeforeValidator(comma_separated),
    Field(min_length=1),
]
Fusions = Annotated[tuple[RuleName, ...], BeforeValidator(comma_separated), Field(min_length=1)]
Separators = Annotated[
    tuple[str, ...],
    BeforeValidator(partial(comma_separated, separator="|", strip=False)),
    Field(min_length=1),
]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TuneConfig(LabelledOptions):
    """Options of ``zsfuse tune``: labelled clips, search space, choice."""

    # The search has its own options, with several values; those of a single run are refused.
    replaced: ClassVar[Mapping[str, str]] = {
        "words": "word-counts",
        "separator": "separators",
        "ensemble": "ensembles",
    }

    parts: Annotated[tuple[Literal["train", "dev", "test"], ...], BeforeValidator(comma_separated)] = option(
        ("dev",),
        "splits used for the choice; add train only if no model was trained on it",
        "protocol",
    )
    folds: Annotated[int, Field(ge=3, le=50)] = option(
        5, "speaker-independent outer folds of the nested estimate", "protocol"
    )
    separators: Separators = option(
        (" ",), "texts between the copies of a prompt, to choose from", "search", "TEXT|TEXT|…"
    )
    word_counts: Repeats = option((1,), "words per label in the prompts, to choose from", "search")
    ensembles: Ensembles = option(("embedding", "logit"), "ensemble rules to choose from", "search")
    fusions: Fusions = option(
        tuple(RULES), f"fusion rules to choose from: {RULES_HELP}", "search", f"{RULE_NAMES},…"
    )
    temperatures: Temperatures = option(
        (), "temperatures T of the ALM to choose from; by default it is fitted on all clips", "search"
    )
    objective: Literal["ua", "wa", "macro_f1", "nll"] = option(
        "ua", "metric to optimise: UA, WA, macro-F1 or the negative log-likelihood", "protocol"
    )
    choose: Literal["one_se", "best"] = option(
        "one_se", "the simplest configuration within one standard error of the best, or the best", "protocol"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alm == "none":
            raise InputError("--alm none leaves nothing to tune; name an audio-language model")
        if len(self.templates) > MOST_TEMPLATES:
            raise InputError(f"{len(self.templates)} templates; at most {MOST_TEMPLATES} can be searched")
        if len(set(self.templates)) < len(self.templates):
            raise InputError("a template is given twice; keep one")
        for name, instead in self.replaced.items():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise InputError(f"--{name} is searched: use --{instead}")
        if max(self.word_counts) > 1 and "probability" in self.ensembles:
            raise InputError("--ensembles probability takes --word-counts 1 only")
        for name in ("separators", "word_counts", "ensembles", "fusions", "temperatures"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))


# Options of output and resources; all others decide the result.
OPERATIONAL = frozenset(
    {"output", "overwrite", "ray_address", "dashboard", "max_reject_rate", "resamples"}
    | {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
)
