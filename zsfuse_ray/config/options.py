"""A job's frozen dataclass from a preset, YAML files and options given by name or on a command line.

Override order: command line (or keyword) > --tuned > --config > preset. Every option is a field:
``max_reject_rate`` is ``--max-reject-rate`` on the command line and ``max_reject_rate:`` in YAML. Names and
values are checked before anything else happens.
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

PRESETS = resources.files("zsfuse_ray") / "presets"


def comma_separated(value: Any, separator: str = ",", strip: bool = True) -> Any:
    """Return the parts of a text, and any other value as it is; separator: what stands for the comma."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() if strip else part for part in value.split(separator))


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, int) else comma_separated(value)


Words = Annotated[tuple[str, ...], BeforeValidator(comma_separated)]
# Templates may hold commas.
Templates = Annotated[tuple[str, ...], BeforeValidator(partial(comma_separated, separator="|"))]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_one_or_more)]
Repeats = Annotated[
    tuple[Annotated[int, Field(ge=1, le=64)], ...], BeforeValidator(_one_or_more), Field(min_length=1)
]
Fraction = Annotated[float, Field(ge=0, le=1)]

RAY_ADDRESS_HELP = (
    "Ray cluster to join; auto is the one on this machine; by default RAY_ADDRESS, else a Ray of its own"
)
DASHBOARD_HELP = "show the dashboard of a Ray of its own, and print its address"

CHECKED = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


def option(default: Any, text: str, group: str, metavar: str | None = None) -> Any:
    """A field with what ``--help`` shows: its text, below the heading group (one of GROUPS).

    metavar: what stands for the value; by default what its type gives. With a | in it, the parts of a list
    are separated by |, else by commas.
    """
    assert group in GROUPS, group
    return dataclasses.field(default=default, metadata={"help": text, "group": group, "metavar": metavar})


class Options:
    """What the options of any job have: where their presets lie, below ``zsfuse_ray/presets``."""

    preset_folder: ClassVar[str | None] = None
    default_preset: ClassVar[str | None] = None
    tuned_keys: ClassVar[tuple[str, ...]] = ()  # what a tuned.yaml may hold; none where there is no --tuned
    needed: ClassVar[Mapping[str, Any]] = {}  # the options that the job cannot do without, with examples
    positional: ClassVar[str | None] = None  # the option that is given as words without a name
    replaced: ClassVar[Mapping[str, str]] = {}  # options that the job refuses, and what it has in their place

    @classmethod
    def takes_of_tuned(cls) -> set[str]:
        """Keys of a tuned.yaml that the job applies; the others of `tuned_keys` it decides itself."""
        return {field.name for field in _fields(cls)} & set(cls.tuned_keys)

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options that override the default preset (not one that is named), given the user's own."""
        return {}

    def __post_init__(self) -> None:
        """End of the chain of checks: each class of options checks its own and calls the next one's."""


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
    """Return a job's configuration and the name of its preset ('' where the job has none).

    options override tuned, a tuned.yaml of ``zsfuse tune`` for a job that takes one; that overrides
    config_file, a YAML file of options; and that the preset, by default the job's own. Values are of the
    fields' types, or text as on a command line. InputError for an unknown preset or option, a value of the
    wrong form, a missing or broken YAML file.
    """
    _check_names(kind, options, "options")
    given: dict[str, Any] = {}
    if config_file:
        given |= read_yaml(kind, _text_of("--config", config_file), str(config_file))
    if tuned:
        if not kind.tuned_keys:
            raise InputError(f"{tuned}: this job takes no tuned.yaml")
        values = read_yaml(kind, _text_of("--tuned", tuned), str(tuned), kind.tuned_keys)
        given |= {key: value for key, value in values.items() if key in kind.takes_of_tuned()}
    given |= options
    values = {}
    if name := preset or kind.default_preset:
        if name not in (known := presets(kind)):
            raise InputError(f"no preset {name}{nearest(name, known)}")
        values = read_yaml(kind, (PRESETS / str(kind.preset_folder) / f"{name}.yaml").read_text(), name)
    usual = kind.usual(given)
    values = usual | values if preset else values | usual
    return build(kind, values | given), name or ""


def parse(
    kind: type[Config], argv: Sequence[str], description: str, prog: str | None = None
) -> tuple[Config, str]:
    """Read a command line into what `load_config` returns; its errors, and InputError for unknown options.

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
    """What a job with a preset records of the options that its command line does not name."""
    values = recorded(load_config(kind, preset, **kind.needed)[0])
    return {name: value for name, value in values.items() if name not in kind.needed}


def _text_of(name: str, file: str | Path) -> str:
    try:
        return Path(file).read_text()
    except OSError as error:
        raise InputError(f"{name} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} {file}: not a text file") from None


def read_yaml(kind: type[Config], text: str, name: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    """Options of a YAML mapping; InputError where it is not one or names an unknown option.

    known: by default all of the job's.
    """
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{name} must be a YAML mapping of options, not a {type(values).__name__}")
    _check_names(kind, values, name, known)
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
    """The configuration as ``resolved`` gives it, without the secrets that its URIs may hold: for files."""

    def clean(value: Any) -> Any:
        if isinstance(value, list):
            return [clean(part) for part in value]
        return redact(value) if isinstance(value, str) else value

    return {key: clean(value) for key, value in resolved(config).items()}


def _fields(kind: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(kind)
