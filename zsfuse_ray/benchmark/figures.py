"""Figures of a benchmark: medians of measurements, and the page that shows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A quantity measured once or several times, in a unit such as "× real time"."""

    what: str
    values: tuple[float, ...]
    unit: str
    note: str = ""

    @property
    def median(self) -> float:
        """Median of the values."""
        return median(self.values)

    def about(self) -> dict[str, Any]:
        """As plain values, for benchmark.json."""
        return {
            "what": self.what,
            "median": self.median,
            "unit": self.unit,
            "values": list(self.values),
            "note": self.note,
        }


def number(value: float) -> str:
    """A number with three significant digits, or with thousands separators."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def extrapolated(
    audio_s: float, text_s: float, scoring_s: float, configurations: int, clips: float, cores: int
) -> tuple[float, float]:
    """Return the seconds to evaluate all configurations one by one: naively, and with cached embeddings.

    audio_s: time to embed the sample's clips once, on all cores; clips: ratio of all clips to the sample.
    text_s: time to embed one configuration's prompts, on all cores. scoring_s: time to score all clips in
    one configuration on one core; perfect scaling over cores is assumed.
    """
    kept = configurations * scoring_s / cores
    return configurations * (audio_s * clips + text_s) + kept, kept


def page(result: Mapping[str, Any]) -> str:
    """The benchmark as Markdown: machine, models, and one row per figure with the range of its values."""
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
