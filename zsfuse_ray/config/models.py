"""Options of every job that runs models: the models, their audio and prompts, their resources."""

from os.path import isdir
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Numbers, Options, Repeats, Templates, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import RULES, find_rule
from zsfuse_ray.method.prompts import TEMPLATES, check_template

_NAMED = (
    "FAMILY:CHECKPOINT (hub id, folder, file, s3:// or gs:// prefix), your own class as "
    "package.module:Class or package.module:Class:CHECKPOINT, or none"
)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ModelOptions(Options):
    """The models, and how they encode audio."""

    alm: str = option("pooled-alm:mini", f"audio-language model: {_NAMED}", "models", "MODEL")
    specialist: str = option("pooled:mini", f"specialist: {_NAMED}", "models", "MODEL")
    audio_repeats: Repeats = option(
        (1,), "a: copies of the audio; with several values, the scores are averaged", "models"
    )
    long: Literal["windows", "crop"] = option(
        "windows", "for segments longer than a model's window: average its windows, or crop to one", "models"
    )
    crop: Literal["head", "seeded"] = option(
        "head",
        "part of a repeated segment that is kept if it is longer than the window: its head, or a random crop "
        "seeded by the segment",
        "models",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "auto is bfloat16 on a GPU and float32 on a CPU", "models"
    )
    batch_s: Annotated[float, Field(gt=0)] | None = option(
        None, "seconds of audio per batch; by default 320 on a GPU and 40 on a CPU", "models"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alm == "none" and self.specialist == "none":
            raise InputError("--alm none and --specialist none leave no model; name at least one")

    @property
    def models(self) -> dict[str, str]:
        """The models by their names in tables: "alm" and "specialist"; further ones are "alm2" …"""
        return {kind: name for kind in ("alm", "specialist") if (name := getattr(self, kind)) != "none"}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ActorOptions(Options):
    """The Ray actors that hold the models."""

    pools: Literal["shared", "separate"] = option(
        "shared", "shared: both models in each actor; separate: a pool of actors for each model", "cluster"
    )
    encoders: Numbers | None = option(
        None, "actors per pool; by default one per GPU, or without GPUs one per node", "cluster", "MIN[,MAX]"
    )
    gpus_per_encoder: Annotated[float, Field(ge=0)] | None = option(
        None,
        "GPUs per actor, may be a fraction; 0 runs it on CPUs; by default 1, or less with fewer GPUs than "
        "pools",
        "cluster",
    )
    cpus_per_encoder: Annotated[float, Field(ge=0)] | None = option(
        None, "logical CPUs per actor; by default 1, or 0 on a small cluster", "cluster"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoders and (len(self.encoders) > 2 or list(self.encoders) != sorted(self.encoders)):
            raise InputError("--encoders takes MIN or MIN,MAX")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderOptions(ModelOptions, ActorOptions):
    """The models, and the actors that hold them."""


def is_fusion_folder(fusion: str) -> bool:
    """Whether the value of ``--fusion`` names the folder of a trained fusion, not a rule."""
    return fusion not in RULES and ("/" in fusion or isdir(fusion))


# The name of a fusion rule, or also the folder of a trained fusion; both for --help.
RuleName = Annotated[str, AfterValidator(lambda name: find_rule(name).name)]
FusionName = Annotated[
    str, AfterValidator(lambda name: name if is_fusion_folder(name) else find_rule(name).name)
]
RULES_HELP = "; ".join(f"{rule.name} is {rule.about}" for rule in RULES.values())
RULE_NAMES = f"{{{','.join(RULES)}}}"
FUSION_NAMES = f"{{{','.join([*RULES, 'FOLDER'])}}}"

# Instead of a model: the one of the embedding table.
OF_TABLE = "table"

# Options that a tuned.yaml may set.
TUNED = (
    *("alm", "specialist", "labels", "templates", "words", "audio_repeats", "text_repeats", "separator"),
    *("ensemble", "temperature", "specialist_temperature", "fusion", "weight", "fused_temperature"),
    *("normalise", "head"),
)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PromptOptions(ModelOptions):
    """The models, and the prompts of the audio-language model."""

    templates: Templates = option(
        TEMPLATES, "prompt templates with {} for the label", "labels and prompts", "TEXT|TEXT|…"
    )
    words: Annotated[int, Field(ge=1, le=10)] = option(
        1, "words per label in the prompts: the label itself, then its synonyms", "labels and prompts"
    )
    text_repeats: Repeats = option(
        (1,),
        "b: copies of the prompt; with several values, the ensemble contains all of them",
        "labels and prompts",
    )
    separator: str = option(" ", "text between the copies of a prompt", "labels and prompts")
    ensemble: Literal["embedding", "logit", "probability"] = option(
        "embedding", "what is averaged over the prompts of a label", "labels and prompts"
    )

    head: str | None = option(
        None,
        "instead of the specialist's own head: one fitted by zsfuse train --from-table; as it has its "
        "temperature in it, --specialist-temperature is then 1 by default",
        "models",
        "FOLDER",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None and self.specialist == "none":
            raise InputError("--head needs the specialist that it was fitted on, not --specialist none")
        for template in self.templates:
            check_template(template)
