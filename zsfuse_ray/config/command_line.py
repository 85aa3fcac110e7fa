"""The parser of a job's command line, and its ``--help``: options in groups, with choices and defaults.

Values stay text here: the job's dataclass checks them.
"""

import argparse
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from zsfuse_ray.errors import InputError, nearest

# Headings of --help, in this order; every option is below one of them.
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
        """Raise InputError; an unknown option comes with the nearest known one."""
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

    defaults: the values of a run without these options, as they are to be shown; an option that is not among
    them, or has none, shows no default. hidden: options that are read, but not shown.
    positional: the option whose values are words without a name.
    """
    words = "FILE… " if positional else ""
    parser = Parser(
        prog=prog,
        usage=f"%(prog)s {words}[options]",  # a list of a hundred options helps nobody
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
        group = parser.add_argument_group(title)  # one without options is not shown
        for field in fields:
            if field.name == positional and field.metadata["group"] == title:
                group.add_argument(
                    positional, nargs="*", metavar=field.metadata["metavar"], help=field.metadata["help"]
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
    """What stands for a value of a type: its choices, or the kind of value."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"{{{','.join(parts)}}}"
    if origin is tuple:
        each = _metavar(parts[0])
        return f"{each},…" if each.startswith("{") else "LIST"
    if origin in (Annotated, Union, UnionType):  # of a union: what it is where it is not None
        return _metavar(parts[0])
    return {bool: "{yes,no}", int: "NUMBER", float: "NUMBER"}.get(kind, "TEXT")


def _show(value: Any, separator: str) -> str:
    """A value as the command line takes it, but for a space, which nobody would see."""
    if isinstance(value, list):
        return separator.join(_show(part, separator) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "a space" if value == " " else str(value)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help in columns that keeps words whole: names and lists are there to be copied."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)
