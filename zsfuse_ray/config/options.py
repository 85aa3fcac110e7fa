"""A job's frozen dataclass from a preset, YAML files and options given by name or on a command line.

Override order: command line (or keyword) > --tuned > --config > preset. Every option is a field:
``max_reject_rate`` is ``--max-reject-rate`` on the command line and ``max_reject_rate:`` in YAML. Names and
values are checked before anything else.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
import yaml
from pydantic import BeforeValidator, Field

from zsfuse_ray.config.command_line import GROUPS, make_parser
from zsfuse_ray.errors import InputError, nearest, redact
from zsfuse_ray.method.zeroshot import TEMPERATURES

PRESETS = resources.files("zsfuse_ray") / "presets"


def comma_separated(value: Any, separator: str = ",", strip: bool = True) -> Any:
    """Split a string at the separator and return its parts; other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() if strip else part for part in value.split(separator))


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, int) else comma_separated(value)


Words = Annotated[tuple[str, ...], BeforeValidator(comma_separated)]
# Templates may contain commas.
Templates = Annotated[tuple[str, ...], BeforeValidator(partial(comma_separated, separator="|"))]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_one_or_more)]
Repeats = Annotated[
    tuple[Annotated[int, Field(ge=1, le=64)], ...], BeforeValidator(_one_or_more), Field(min_length=1)
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])]

RAY_ADDRESS_HELP = (
    "Ray cluster to join; auto is the one on this machine; by default RAY_ADDRESS, else a new local Ray"
)
DASHBOARD_HELP = "start the dashboard of the local Ray, and print its address"

CHECKED = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


def option(default: Any, text: str, group: str, metavar: str | None = None) -> Any:
    """Return a dataclass field with its text in ``--help`` and its heading there, group (one of GROUPS).

    metavar: placeholder for the value; by default it follows from the type. If it contains |, the parts of a
    list are separated by |, else by commas.
    """
    assert group in GROUPS, group
    return dataclasses.field(default=default, metadata={"help": text, "group": group, "metavar": metavar})


class Options:
    """Base class of the options of any job; preset_folder is below ``zsfuse_ray/presets``."""

    preset_folder: ClassVar[str | None] = None
    default_preset: ClassVar[str | None] = None
    tuned_keys: ClassVar[tuple[str, ...]] = ()  # keys of a tuned.yaml; none if there is no --tuned
    needed: ClassVar[Mapping[str, Any]] = {}  # required options, with examples
    positional: ClassVar[str | None] = None  # the option given as positional arguments
    replaced: ClassVar[Mapping[str, str]] = {}  # refused options, and what replaces them

    @classmethod
    def takes_of_tuned(cls) -> set[str]:
        """Keys of a tuned.yaml that the job applies; it ignores the others of `tuned_keys`."""
        return {field.name for field in _fields(cls)} & set(cls.tuned_keys)

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options that override the default preset (not a named one); given: the user's options."""
        return {}

    def __post_init__(self) -> None:
        """End of the chain of checks: each class checks its own options and calls the next one."""


Config = TypeVar("Config", bound=Options)


def presets(kind: type[Options]) -> list[str]:
    """Names for the job's ``--preset``."""
    if kind.preset_folder is None:
        return []
    files = (PRESETS / kind.preset_folder).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_config(
    kind: type[Config],
    preset: str | None = None,
    *,
    config_file: str | Path | None = None,
    tuned: str | Path | None = None,
    **options: Any,
) -> tuple[Config, str]:
    """Return a job's configuration and the name of its preset ('' if the job has none).

    Override order: options > tuned (a tuned.yaml of ``zsfuse tune``, if the job accepts one) > config_file (a
    YAML file of options) > preset (by default the job's own). Values have the fields' types, or are text as
    on a command line. InputError for an unknown preset or option, an invalid value, a missing or broken file.
    """
    _check_names(kind, options, "options")
    given: dict[str, Any] = {}
    if config_file:
        given |= read_yaml(kind, text_of("--config", config_file), str(config_file))
    if tuned:
        if not kind.tuned_keys:
            raise InputError(f"{tuned}: this job takes no tuned.yaml")
        values = read_yaml(kind, text_of("--tuned", tuned), str(tuned), kind.tuned_keys)
        given |= {key: value for key, value in values.items() if key in kind.takes_of_tuned()}
    given |= options
    values = _preset_values(kind, preset)
    usual = kind.usual(given)
    values = usual | values if preset else values | usual
    return build(kind, values | given), preset or kind.default_preset or ""


def _preset_values(kind: type[Options], preset: str | None) -> dict[str, Any]:
    """Options of a preset, by default the job's default preset, if it has one; InputError if unknown."""
    name = preset or kind.default_preset
    if not name:
        return {}
    if name not in (known := presets(kind)):
        raise InputError(f"no preset {name}{nearest(name, known)}")
    return read_yaml(kind, (PRESETS / str(kind.preset_folder) / f"{name}.yaml").read_text(), name)


def parse(
    kind: type[Config], argv: Sequence[str], description: str, prog: str | None = None
) -> tuple[Config, str]:
    """Parse a command line; returns and raises the same as `load_config`.

    With --help it prints the help text and exits.
    """
    parser = partial(
        make_parser,
        _fields(kind),
        prog=prog,
        description=description,
        presets=presets(kind),
        default_preset=kind.default_preset,
        takes_tuned=bool(kind.tuned_keys),
        hidden=kind.replaced,
        positional=kind.positional,
    )
    given = vars(parser(defaults={}).parse_intermixed_args(argv))
    preset, file, tuned = (given.pop(name, None) for name in ("preset", "config", "tuned"))
    if given.pop("help", False):
        print(parser(defaults=defaults(kind, preset)).format_help(), end="")
        sys.exit(0)
    return load_config(kind, preset, config_file=file, tuned=tuned, **given)


def defaults(kind: type[Options], preset: str | None = None) -> dict[str, Any]:
    """The recorded values of the options that are not given, for a job with a preset."""
    own = _preset_values(kind, preset)
    placeholders = {name: value for name, value in kind.needed.items() if name not in own}
    values = recorded(load_config(kind, preset, **placeholders)[0])
    return {name: value for name, value in values.items() if name not in placeholders}


def text_of(name: str, file: str | Path) -> str:
    """Content of the text file that the option of this name gives; InputError if it cannot be read."""
    try:
        return Path(file).read_text()
    except OSError as error:
        raise InputError(f"{name} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} {file}: not a text file") from None


def read_yaml(kind: type[Config], text: str, name: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    """Options of a YAML mapping; InputError if it is not one or contains an unknown option.

    known: by default all of the job's.
    """
    values = yaml_mapping(text, name, "options")
    _check_names(kind, values, name, known)
    return values


def yaml_mapping(text: str, name: str, content: str) -> dict[Any, Any]:
    """A YAML mapping of this content, safely loaded; InputError with the file's name if it is not one."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{name} must be a YAML mapping of {content}, not a {type(values).__name__}")
    return values


def _check_names(
    kind: type[Options], values: Mapping[str, Any], source: str, known: Sequence[str] | None = None
) -> None:
    known = [field.name for field in _fields(kind)] if known is None else known
    for key in values:
        if key not in known:
            raise InputError(f"{source}: unknown option {key}{nearest(str(key), known)}")


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


def resolved(config: Options) -> dict[str, Any]:
    """The configuration as plain JSON values, in the order of its fields."""
    values = {f.name: getattr(config, f.name) for f in _fields(config)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def recorded(config: Options) -> dict[str, Any]:
    """The configuration as from ``resolved``, without secrets in URIs: for files."""

    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(part) for part in value]
        return redact(value) if isinstance(value, str) else value

    return {key: clean(value) for key, value in resolved(config).items()}


def _fields(kind: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(kind)
