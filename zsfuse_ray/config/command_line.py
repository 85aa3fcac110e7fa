"""The parser of a job's command line, and its ``--help``: options in groups, with choices and defaults.

Values stay strings here; the job's dataclass checks them.
"""

import argparse
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from zsfuse_ray.errors import InputError, nearest

# Headings of --help, in this order; every option belongs to one.
GROUPS = (
    "input",
    "output",
    "segments",
    "models",
    "labels and prompts",
    "fusion",
    "search",
    "protocol",
    "audio-language model",
    "training",
    "optimiser",
    "loss",
    "augmentation",
    "measurements",
    "cluster",
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputError."""

    def error(self, message: str) -> Any:
        """Raise InputError, which suggests the nearest known option for an unknown one."""
        known = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            name = next((word for word in unknown.split() if word.startswith("-")), unknown).split("=")[0]
            raise InputError(f"unknown option {name}{nearest(name, known)}")
        raise InputError(message)


def make_parser(
    fields: Sequence[Field],
    defaults: Mapping[str, Any],
    *,
    prog: str | None,
    description: str,
    presets: Sequence[str] = (),
    default_preset: str | None = None,
    takes_tuned: bool = False,
    hidden: Collection[str] = (),
    positional: str | None = None,
) -> Parser:
    """Return the parser of these options; --help is one of them, and only sets ``help``.

    defaults: the default values to show; an option that is missing there, or empty, shows none. hidden:
    options that are parsed but not shown. positional: the option whose values are positional arguments.
    """
    words = "FILE… " if positional else ""
    parser = Parser(
        prog=prog,
        usage=f"%(prog)s {words}[options]",  # argparse would list a hundred options
        description=description,
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    general = parser.add_argument_group("options")
    preset_help = "; with --preset, the defaults are those of the preset" if presets else ""
    general.add_argument(
        "-h", "--help", action="store_true", help=f"print this help text and exit{preset_help}"
    )
    if presets:
        usual = f" (default {default_preset})" if default_preset else ""
        general.add_argument(
            "--preset", metavar=f"{{{','.join(presets)}}}", help=f"named set of option values{usual}"
        )
        general.add_argument("--config", metavar="FILE", help="YAML file of options; overrides the preset")
    if takes_tuned:
        general.add_argument("--tuned", metavar="FILE", help="tuned.yaml of zsfuse tune; overrides --config")
    for title in GROUPS:
        group = parser.add_argument_group(title)  # argparse omits empty groups
        for field in fields:
            if field.name == positional and field.metadata["group"] == title:
                group.add_argument(
                    field.name, nargs="*", metavar=field.metadata["metavar"], help=field.metadata["help"]
                )
            elif field.metadata["group"] == title:
                _add(group, field, defaults.get(field.name), field.name in hidden)
    return parser


def _add(group: Any, field: Field, default: Any, is_hidden: bool) -> None:
    metavar = field.metadata["metavar"] or _metavar(field.type)
    separator = "|" if "|" in metavar else ","
    shown = "" if default in (None, "", []) else f" (default {_show(default, separator)})"
    flag: dict[str, Any] = {"nargs": "?", "const": "yes"} if field.type is bool else {}
    group.add_argument(
        "--" + field.name.replace("_", "-"),
        metavar=metavar,
        help=argparse.SUPPRESS if is_hidden else (field.metadata["help"] + shown).replace("%", "%%"),
        **flag,
    )


def _metavar(kind: Any) -> str:
    """Placeholder for a value of a type: its choices, or its kind."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"{{{','.join(parts)}}}"
    if origin is tuple:
        each = _metavar(parts[0])
        return f"{each},…" if each.startswith("{") else "LIST"
    if origin in (Annotated, Union, UnionType):  # union: with None, the other type comes first
        return _metavar(parts[0])
    return {bool: "{yes,no}", int: "NUMBER", float: "NUMBER"}.get(kind, "TEXT")


def _show(value: Any, separator: str) -> str:
    """A value as typed on the command line, except a space, which would be invisible."""
    if isinstance(value, list):
        return separator.join(_show(part, separator) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "a space" if value == " " else str(value)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help in columns that never breaks words, so that names and lists can be copied."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)
