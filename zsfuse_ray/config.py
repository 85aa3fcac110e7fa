"""One frozen dataclass a job, filled from a preset, a YAML file and the command line, in this order.

Every option is a field: ``max_reject_rate`` is ``--max-reject-rate`` on the command line and
``max_reject_rate:`` in YAML. Names and values are checked before anything else happens.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import yaml
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.audio.segment import GRID_S, Segmentation, Vad
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.method import labels as label_sets
from zsfuse_ray.method.prompts import TEMPLATES, check_template

DEFAULT_PRESET = "untrained"
PRESETS = resources.files("zsfuse_ray") / "presets"


def _split(value: Any, separator: str = ",") -> Any:
    return tuple(part.strip() for part in value.split(separator)) if isinstance(value, str) else value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, int) else _split(value)


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
# Templates may hold commas.
Templates = Annotated[tuple[str, ...], BeforeValidator(partial(_split, separator="|"))]
Repeats = Annotated[
    tuple[Annotated[int, Field(ge=1, le=64)], ...], BeforeValidator(_one_or_more), Field(min_length=1)
]
Encoders = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_one_or_more)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_checked = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


def option(default: Any, text: str) -> Any:
    """A field with its help text, shown by ``--help``."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True, config=_checked)
class PlanConfig:
    """Options of ``jobs/plan.py``: what to read and how to slice it."""

    input: str = option(
        "", "folder, file, glob, s3:// prefix, manifest (csv, jsonl, parquet with a column uri), or demo"
    )
    output: str = option("", "folder or s3:// prefix for the tables")
    item_s: float = option(
        300.0, f"seconds of a recording that are scheduled as one; a multiple of {GRID_S:g}"
    )
    vad: Vad = option("silero", "silero finds speech; none takes fixed windows, for ready-cut clips")
    min_segment_s: float = option(0.5, "shortest segment in seconds")
    max_segment_s: float = option(10.0, "longest segment in seconds")
    vad_threshold: Fraction = option(0.5, "speech probability at which a segment starts")
    ray_address: str | None = option(
        None, "Ray cluster to join (auto: the one here); else RAY_ADDRESS, else an own Ray"
    )
    overwrite: bool = option(False, "delete another run's tables in the output folder")

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed, for example --input demo --output out")
        if self.item_s < GRID_S or self.item_s % GRID_S:
            raise InputError(f"--item-s must be a multiple of {GRID_S:g} seconds, not {self.item_s:g}")
        if not 0.1 <= self.min_segment_s <= self.max_segment_s / 2:
            raise InputError("--min-segment-s must lie between 0.1 and half of --max-segment-s")
        if not 1 <= self.max_segment_s <= 60:
            raise InputError(f"--max-segment-s must lie between 1 and 60 seconds, not {self.max_segment_s:g}")

    @property
    def segmentation(self) -> Segmentation:
        """The voice activity options in the form the audio code takes."""
        return Segmentation(self.vad, self.min_segment_s, self.max_segment_s, self.vad_threshold)


@dataclass(frozen=True, kw_only=True, config=_checked)
class ScoreConfig(PlanConfig):
    """Options of ``jobs/score.py``: the plan's, the models, the method, and what they may use."""

    alm: str = option("clap:untrained", "audio-language model, FAMILY:CHECKPOINT (hub id or folder), or none")
    specialist: str = option(
        "classifier:untrained", "specialist, FAMILY:CHECKPOINT (hub id or folder), or none"
    )
    labels: Words = option(
        label_sets.CORPORA["emodb"], "label set, separated by commas, or the name of a corpus"
    )
    templates: Templates = option(TEMPLATES, "prompt templates with {} for the label, separated by |")
    words: Annotated[int, Field(ge=1, le=10)] = option(
        1, "words a label is put into templates with: itself, then synonyms"
    )
    audio_repeats: Repeats = option((1,), "a: copies of the audio; scores of several are averaged")
    text_repeats: Repeats = option((1,), "b: copies of the prompt; several join the ensemble")
    separator: str = option(" ", "between copies of a prompt")
    ensemble: Literal["embedding", "logit", "probability"] = option(
        "embedding", "what is averaged over the prompts"
    )
    temperature: Annotated[float, Field(gt=0)] = option(1.0, "T of the ALM's softmax")
    fusion: Literal["linear", "loglinear"] = option("linear", "how the two posteriors are combined")
    weight: Fraction = option(0.5, "w: share of the ALM; 0 is the specialist alone")
    long: Literal["windows", "crop"] = option(
        "windows", "segments beyond a model's window: averaged windows, or cropped"
    )
    crop: Literal["head", "seeded"] = option(
        "head", "which part of a repeated signal longer than the window is kept"
    )
    pools: Literal["shared", "separate"] = option("shared", "both models in each actor, or a pool for each")
    encoders: Encoders | None = option(
        None, "actors of a pool, MIN,MAX; by default one a GPU, or one a node without GPUs"
    )
    gpus_per_encoder: Annotated[float, Field(ge=0)] | None = option(
        None, "GPUs of an actor, may be a fraction; 0 is CPU"
    )
    cpus_per_encoder: Annotated[float, Field(ge=0)] | None = option(None, "logical CPUs of an actor")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "auto is bfloat16 on a GPU, float32 on CPU"
    )
    batch_s: Annotated[float, Field(gt=0)] | None = option(
        None, "seconds of audio an encoder takes at once; 320 on a GPU, 40 on a CPU"
    )
    max_reject_rate: Fraction = option(0.05, "share of items that may fail before the job exits with 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = label_sets.CORPORA.get(self.labels[0], self.labels) if len(self.labels) == 1 else self.labels
        object.__setattr__(self, "labels", label_sets.label_set(names))
        for template in self.templates:
            check_template(template)
        if self.alm == "none" and self.specialist == "none":
            raise InputError("--alm none and --specialist none leave no model; name at least one")
        if self.encoders and (len(self.encoders) > 2 or list(self.encoders) != sorted(self.encoders)):
            raise InputError("--encoders takes MIN or MIN,MAX")


# Options that say where and with what the work is done; everything else decides what comes out.
_WHERE = {"output", "overwrite", "ray_address"}
_WITH_WHAT = {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
OPERATIONAL = frozenset(_WHERE | _WITH_WHAT | {"max_reject_rate"})

Config = TypeVar("Config", bound=PlanConfig)


def presets() -> list[str]:
    """Names for ``--preset``."""
    return sorted(f.name.removesuffix(".yaml") for f in PRESETS.iterdir() if f.name.endswith(".yaml"))


def parse(kind: type[Config], argv: Sequence[str], description: str) -> tuple[Config, str]:
    """Read a command line. Returns the configuration and the name of its preset ('' where the job has none).

    Raises InputError for an unknown option, a value of the wrong form, a missing or broken YAML file.
    """
    layered = kind is not PlanConfig
    parser = _Parser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if layered:
        parser.add_argument(
            "--preset", help=f"named options: {', '.join(presets())} (default {DEFAULT_PRESET})"
        )
        parser.add_argument(
            "--config", help="YAML file of options; goes over the preset, under the command line"
        )
    for field in dataclasses.fields(kind):
        default = "" if field.default in ("", None, False) else f" (default {_show(field.default)})"
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            help=(field.metadata["help"] + default).replace("%", "%%"),
            default=argparse.SUPPRESS,
            action="store_true" if field.default is False else "store",
        )
    given = vars(parser.parse_args(argv))
    preset, file = given.pop("preset", None), given.pop("config", None)
    values: dict[str, Any] = {}
    if layered:
        preset = preset or DEFAULT_PRESET
        if preset not in presets():
            raise InputError(f"no preset {preset}{nearest(preset, presets())}")
        values |= read_yaml(kind, (PRESETS / f"{preset}.yaml").read_text(), preset)
    if file:
        try:
            values |= read_yaml(kind, Path(file).read_text(), file)
        except OSError as error:
            raise InputError(f"--config {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"--config {file}: not a text file") from None
    return build(kind, values | given), preset or ""


def read_yaml(kind: type[Config], text: str, name: str) -> dict[str, Any]:
    """Options of a YAML mapping; InputError where it is not one or names an option that does not exist."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{name} must be a YAML mapping of options, not a {type(values).__name__}")
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise InputError(f"{name}: unknown option {key}{nearest(str(key), known)}")
    return values


def build(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Check values (strings as on a command line, or of their own type) and build the dataclass."""
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            raise cause from None
        name = str(first["loc"][0]) if first["loc"] else "option"
        given = str(first["input"])[:80]
        raise InputError(f"--{name.replace('_', '-')} {given}: {first['msg'].lower()}") from None


def resolved(config: PlanConfig) -> dict[str, Any]:
    """The configuration as plain JSON values, in the order of its fields."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _show(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return ",".join(map(str, value)) if len(value) < 10 else f"{len(value)} of them"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        known = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            name = next((word for word in unknown.split() if word.startswith("-")), unknown).split("=")[0]
            raise InputError(f"unknown option {name}{nearest(name, known)}")
        raise InputError(message)
