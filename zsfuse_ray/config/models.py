"""Options of every job that runs the models: which, on what audio and prompts, with what resources."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Numbers, Options, Repeats, Templates, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import RULES, find_rule
from zsfuse_ray.method.prompts import TEMPLATES, check_template

_NAMED = (
    "FAMILY:CHECKPOINT (hub id, folder or s3:// URI), a class of yours as package.module:Class or "
    "package.module:Class:CHECKPOINT, or none"
)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ModelOptions(Options):
    """The models, and how they encode audio."""

    alm: str = option("dual:mini-alm", f"audio-language model: {_NAMED}", "models", "MODEL")
    specialist: str = option("classifier:mini-specialist", f"specialist: {_NAMED}", "models", "MODEL")
    audio_repeats: Repeats = option(
        (1,), "a: copies of the audio; the scores of several are averaged", "models"
    )
    long: Literal["windows", "crop"] = option(
        "windows", "a segment longer than the window of a model: averaged windows, or one crop", "models"
    )
    crop: Literal["head", "seeded"] = option(
        "head",
        "part of a repeated segment that is kept where it is longer than the window: its head, or one at a "
        "random place seeded by the segment",
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
        """The models by their names in tables: "alm" and "specialist", and of several of a kind "alm2" …"""
        return {kind: name for kind in ("alm", "specialist") if (name := getattr(self, kind)) != "none"}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ActorOptions(Options):
    """The Ray actors that hold the models."""

    pools: Literal["shared", "separate"] = option(
        "shared", "shared: both models in each actor; separate: a pool of actors for each model", "cluster"
    )
    encoders: Numbers | None = option(
        None, "actors of a pool; by default one per GPU, or without GPUs one per node", "cluster", "MIN[,MAX]"
    )
    gpus_per_encoder: Annotated[float, Field(ge=0)] | None = option(
        None,
        "GPUs of an actor, may be a fraction; 0 runs it on CPUs; by default 1, or less where there are fewer "
        "than pools",
        "cluster",
    )
    cpus_per_encoder: Annotated[float, Field(ge=0)] | None = option(
        None, "logical CPUs of an actor; by default 1, or 0 on a small cluster", "cluster"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoders and (len(self.encoders) > 2 or list(self.encoders) != sorted(self.encoders)):
            raise InputError("--encoders takes MIN or MIN,MAX")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderOptions(ModelOptions, ActorOptions):
    """The models, and the actors that hold them."""


# The name of a fusion rule; the rules, and their names, as --help lists them.
FusionName = Annotated[str, AfterValidator(lambda name: find_rule(name).name)]
RULES_HELP = "; ".join(f"{rule.name} is {rule.about}" for rule in RULES.values())
RULE_NAMES = f"{{{','.join(RULES)}}}"

# In place of a model: those an embedding table was made with.
OF_TABLE = "table"

# What a tuning decides, by the names of the options that take it.
TUNED = (
    *("alm", "specialist", "labels", "templates", "words", "audio_repeats", "text_repeats", "separator"),
    *("ensemble", "temperature", "fusion", "weight"),
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
        (1,), "b: copies of the prompt; the prompts of several join the ensemble", "labels and prompts"
    )
    separator: str = option(" ", "text between the copies of a prompt", "labels and prompts")
    ensemble: Literal["embedding", "logit", "probability"] = option(
        "embedding", "what is averaged over the prompts of a label", "labels and prompts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for template in self.templates:
            check_template(template)
