"""Descriptions of the families, for ``--list-models``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["alm", "specialist"]


@dataclass(frozen=True)
class About:
    """One-line description of a family: rate, window, dimension and licence of its usual checkpoints.

    checkpoints: names of some that are known to work. note: what a user must know before choosing it.
    """

    rate: str
    window: str
    dim: str
    licence: str
    checkpoints: tuple[str, ...]
    note: str = ""


def listed(families: Mapping[str, Any]) -> str:
    """Return a table of the families, each followed by its known checkpoints and its note."""
    head = ["family", "kind", "rate", "window", "dimension", "licence"]
    rows, known = [head], [[]]
    for name, family in families.items():
        about: About = family.about
        rows.append([name, family.kind, about.rate, about.window, about.dim, about.licence])
        notes = [f"    {about.note}"] if about.note else []
        known.append([f"    {name}:{checkpoint}" for checkpoint in about.checkpoints] + notes)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row, checkpoints in zip(rows, known, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines += ["  ".join(cells).rstrip(), *checkpoints]
    return "\n".join(lines)
