"""Formatting of metric records for tables and lists."""

from collections.abc import Mapping
from typing import Any


def percent(metric: Mapping[str, Any] | None, digits: int = 1) -> str:
    """A metric in %, with its interval (to ``digits`` decimals) or a dash for it; a dash for None."""
    if metric is None:
        return "–"
    value = f"{100 * metric['value']:.1f}"
    if metric["low"] is None:
        return f"{value} (–)"
    return f"{value} ({100 * metric['low']:.{digits}f}–{100 * metric['high']:.{digits}f})"


def points(gain: Mapping[str, Any]) -> str:
    """A difference in points, with its interval or a dash for it."""
    value = f"{100 * gain['value']:+.1f} points"
    if gain["low"] is None:
        return f"{value} (–)"
    return f"{value} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
