"""A job's frozen dataclass from a preset, YAML files and options given by name or on a command line.

Override order: command line (or keyword) > --tuned > --config > preset. Every option is a field:
``max_reject_rate`` is ``--max-reject-rate`` on the command line and ``max_reject_rate:`` in YAML. Names and
values are checked before anything else happens.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
import yaml
from pydantic import BeforeValidator, Field

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

CHECKED = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


def option(default: Any, text: str) -> Any:
    """A field with its help text, shown by ``--help``."""
    return dataclasses.field(default=default, metadata={"help": text})


class Options:
    """What the options of any job have: where their presets lie, below ``zsfuse_ray/presets``."""

    preset_folder: ClassVar[str | None] = None
    default_preset: ClassVar[str | None] = None
    tuned_keys: ClassVar[tuple[str, ...]] = ()  # what a tuned.yaml may hold; none where there is no --tuned

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
    """Read a command line into what `load_config` returns; its errors, and InputError for unknown options."""
    known = presets(kind)
    parser = _Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if known:
        default = f" (default {kind.default_preset})" if kind.default_preset else ""
        parser.add_argument("--preset", help=f"named options: {', '.join(known)}{default}")
        parser.add_argument("--config", help="YAML file of options; overrides the preset")
    if kind.tuned_keys:
        parser.add_argument("--tuned", help="tuned.yaml of zsfuse tune; overrides --config")
    for field in _fields(kind):
        default = "" if field.default in ("", None, False) else f" (default {_show(field.default)})"
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            help=(field.metadata["help"] + default).replace("%", "%%"),
            default=argparse.SUPPRESS,
            action="store_true" if field.default is False else "store",
        )
    given = vars(parser.parse_args(argv))
    preset, file, tuned = (given.pop(name, None) for name in ("preset", "config", "tuned"))
    return load_config(kind, preset, config_file=file, tuned=tuned, **given)


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
