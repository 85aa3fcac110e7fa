"""Figures of a benchmark: medians of what was measured, and the page that shows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Something measured, once or several times, in a unit such as "× real time"."""

    what: str
    values: tuple[float, ...]
    unit: str
    note: str = ""

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return median(self.values)

    def about(self) -> dict[str, Any]:
        """In plain values, for benchmark.json."""
        return {
            "what": self.what,
            "median": self.median,
            "unit": self.unit,
            "values": list(self.values),
            "note": self.note,
        }


def number(value: float) -> str:
    """Three digits of a number, with commas where it is long."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def extrapolated(
    audio_s: float, text_s: float, scoring_s: float, configurations: int, clips: float, cores: int
) -> tuple[float, float]:
    """Return the seconds of trying all configurations one by one: naively, and with embeddings kept.

    audio_s: of embedding the sample's clips once, by all cores; clips: how many times the sample all clips
    are. text_s: of embedding one configuration's prompts, by all cores. scoring_s: of scoring all clips in
    one configuration on one core; it is taken to spread over the cores without loss.
    """
    kept = configurations * scoring_s / cores
    return configurations * (audio_s * clips + text_s) + kept, kept


def page(result: Mapping[str, Any]) -> str:
    """The benchmark as Markdown: the machine, the models, and a row a figure with the range of its values."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    machine, versions = result["machine"], result["versions"]
    yield (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['gpu'] or 'no GPU'}, load "
        f"{machine['load']:.1f} at the start; ray {versions['ray']}, torch {versions['torch']}"
    )
    yield f"models: {', '.join(result['models'])}"
    yield ""
    yield "| part | what | median | lowest to highest | |"
    yield "|---|---|---|---|---|"
    for part, figures in result["figures"].items():
        for one in figures:
            value = f"{number(one['median'])} {one['unit']}"
            yield f"| {part} | {one['what']} | {value} | {_range(one)} | {one['note']} |"


def _range(one: Mapping[str, Any]) -> str:
    values: Sequence[float] = one["values"]
    if len(values) == 1:
        return "once"
    return f"{number(min(values))} to {number(max(values))}"
