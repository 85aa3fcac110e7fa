"""The figures of an evaluation, drawn from its JSON table."""

from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zsfuse_ray.reporting.canvas import BLUE, FONT, GREY, ORANGE, RED, heat_map, new_figure, over_copies

_RULE_STYLES = ((BLUE, "o"), (ORANGE, "^"), (GREY, "s"))  # cycled over fusion rules
_SHOWN = ("svm", "specialist", "alm_amplified", "zs_fuse")  # systems of figures with few panels
_STYLES = dict(
    zip(_SHOWN, ((GREY, "s", ":"), (BLUE, "o", "-"), (ORANGE, "^", "--"), (RED, "D", "-.")), strict=True)
)


def draw(corpus: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Yield (name, figure) for one corpus of ``evaluation.json``; figures without data are left out."""
    yield "systems", systems(corpus, table)
    yield "confusion", confusions(corpus, table)
    yield "reliability", reliability(corpus, table)
    if "weight_curve" in table:
        yield "weight", weight(corpus, table)
    if "amplification" in table:
        yield "amplification", amplification(corpus, table)


def systems(corpus: str, table: Mapping[str, Any]) -> Figure:
    """UA of every system with its interval, chance as a line."""
    rows = [(key, system) for key, system in table["systems"].items() if key != "chance"]
    figure, (axes,) = new_figure(1, 7.5, 1.6 + 0.42 * len(rows))
    for y, (key, system) in enumerate(reversed(rows)):
        ua = system["ua"]
        colour = RED if key.startswith("zs_fuse") else GREY if key == "svm" else BLUE
        if ua["low"] is not None:
            axes.plot([100 * ua["low"], 100 * ua["high"]], [y, y], color=colour, linewidth=2.2, alpha=0.75)
        axes.plot(100 * ua["value"], y, "o", color=colour, markersize=7)
        axes.annotate(
            f"{100 * ua['value']:.1f}",
            (100 * ua["value"], y),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=FONT - 2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    chance = 100 * table["systems"]["chance"]["ua"]["value"]
    axes.axvline(chance, color=GREY, linestyle=":", linewidth=1.5)
    axes.annotate("chance", (chance, len(rows) - 0.55), xytext=(4, 0), textcoords="offset points", color=GREY)
    axes.set_yticks(range(len(rows)), [system["name"] for _, system in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.2)
    axes.set_xlim(left=0)
    axes.set_xlabel("UA in %, with 95 % interval over speakers")
    axes.grid(axis="x", alpha=0.3)
    speakers = table["protocol"]["test_speakers"]
    axes.set_title(f"{corpus}: {len(table['labels'])} emotions, {speakers or 'unnamed'} test speakers")
    return figure


def confusions(corpus: str, table: Mapping[str, Any]) -> Figure:
    """Confusion matrices of the main systems, in % of each row."""
    shown = [key for key in _SHOWN if key in table["systems"]]
    n = len(table["labels"])
    side = 1.6 + 0.45 * n
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(columns, side * columns + 0.8, side * rows + 1.0, rows=rows)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, key in zip(axes, shown, strict=False):
        counts = np.array(table["systems"][key]["confusion"], dtype=float)
        share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        heat_map(ax, share, _whole, (0, 100), white_above=55, cmap="Blues")
        ax.set_xticks(range(n), table["labels"], rotation=45, ha="right")
        ax.set_yticks(range(n), table["labels"])
        system = table["systems"][key]
        ax.set_title(f"{system['name']}\nUA {100 * system['ua']['value']:.1f} %", fontsize=FONT)
    figure.suptitle(f"{corpus}: true emotion (row) → predicted (column), in % of the row")
    return figure


def _whole(row: int, column: int, value: float) -> str:
    return f"{value:.0f}" if value >= 0.5 else ""


def reliability(corpus: str, table: Mapping[str, Any]) -> Figure:
    """Accuracy over confidence, before and after temperatures; a calibrated system is on the diagonal."""
    shown: list[Any] = [key for key in _SHOWN if key in table["systems"]]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, every = new_figure(columns, 4.6 * columns, 4.4 * rows + 0.4, rows=rows)
    for axes in every[len(shown) :]:
        axes.set_axis_off()
    for axes, key in zip(every, shown, strict=False):
        axes.plot([0, 100], [0, 100], color="black", linewidth=1, alpha=0.6)
        system = table["systems"][key]
        colour, marker, line = _STYLES[key]
        if (both := table["calibration"].get(key)) is not None:
            label = f"temperatures 1, ECE {100 * both['before']['ece']['value']:.1f}"
            _curve(axes, both["before"]["reliability"], label, GREY, "x", ":")
        label = f"{'calibrated, ' if both else ''}ECE {100 * system['ece']['value']:.1f}"
        _curve(axes, system["reliability"], label, colour, marker, line)
        axes.set_xlim(-3, 103)
        axes.set_ylim(-3, 103)
        axes.set_title(system["name"], fontsize=FONT)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", fontsize=FONT - 2)
    for axes in every[::columns]:
        axes.set_ylabel("accuracy in %")
    for axes in every[-columns:]:
        axes.set_xlabel("confidence in %")
    figure.suptitle(f"{corpus}: reliability (size: share of the clips)", fontsize=FONT)
    return figure


def _curve(axes: Axes, bins: Mapping[str, Any], label: str, colour: str, marker: str, line: str) -> None:
    some = [i for i, clips in enumerate(bins["clips"]) if clips]
    x = [100 * bins["confidence"][i] for i in some]
    y = [100 * bins["accuracy"][i] for i in some]
    most = max(bins["clips"])
    axes.plot(x, y, linestyle=line, color=colour, linewidth=1.5)
    sizes = [15 + 110 * bins["clips"][i] / most for i in some]
    axes.scatter(x, y, s=sizes, marker=marker, color=colour, label=label, alpha=0.85)


def weight(corpus: str, table: Mapping[str, Any]) -> Figure:
    """UA over the fusion weight w, for each fusion rule; the weights chosen on dev are marked."""
    curve = table["weight_curve"]
    figure, axes = new_figure(2, 10.0, 4.6, sharey=True)
    for ax, part in zip(axes, ("dev", "test"), strict=True):
        for (rule, values), (colour, marker) in zip(curve[part].items(), cycle(_RULE_STYLES), strict=False):
            ua = [100 * value for value in values]
            ax.plot(curve["weights"], ua, color=colour, marker=marker, markersize=4.5, label=rule)
        chosen = [choice["zs_fuse"]["w"] for choice in table["choices"]]
        for n, w in enumerate(sorted(set(chosen))):
            ax.axvline(w, color=RED, linestyle="--", linewidth=1.3, label="chosen on dev" if n == 0 else None)
        ax.set_xlabel("w: 0 is the specialist, 1 the ALM")
        ax.set_title(
            "dev speakers (used to choose)" if part == "dev" else "test speakers (not used to choose)"
        )
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("UA in %")
    axes[0].legend(fontsize=FONT - 1)
    figure.suptitle(f"{corpus}: UA over the fusion weight")
    return figure


def amplification(corpus: str, table: Mapping[str, Any]) -> Figure:
    """UA of the prompt ensemble over copies of audio (a) and text (b)."""
    grid = table["amplification"]
    return over_copies(
        f"{corpus}: UA in % of the ALM over amplification (★ chosen on dev)",
        grid["a"],
        grid["b"],
        {f"{part} speakers": 100 * np.array(grid[part]) for part in ("dev", "test")},
        marked={(c["alm_amplified"]["a"], c["alm_amplified"]["b"]) for c in table["choices"]},
        same_colours=True,
    )
