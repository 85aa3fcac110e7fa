"""when_it_pays.json as Markdown tables and as a figure."""

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from zsfuse_ray.reporting.canvas import BLUE, FONT, GREEN, GREY, ORANGE, RED, new_figure

NAMES = {
    "specialist": "specialist alone",
    "alm": "ALM alone",
    "linear_alm": "+ ALM, linear, w = 0.2",
    "loglinear_alm": "+ ALM, log-linear, w = 0.2",
    "chosen_alm": "+ ALM, rule and w chosen",
    "concat_alm": "+ ALM, `concat`",
    "control": "control alone",
    "linear_control": "+ control, linear, w = 0.2",
    "loglinear_control": "+ control, log-linear, w = 0.2",
    "chosen_control": "+ control, rule and w chosen",
    "concat_control": "+ control, `concat`",
}
CORPORA = {"ravdess": "RAVDESS", "emodb": "EmoDB", "nemo": "nEMO"}
_DRAWN = {
    "specialist": (BLUE, "o", "-"),
    "loglinear_alm": (RED, "D", "-"),
    "chosen_alm": (ORANGE, "^", "--"),
    "concat_alm": (GREEN, "s", "--"),
    "loglinear_control": (GREY, "v", ":"),
}


def tables(result: Mapping[str, Any]) -> str:
    """All tables as Markdown, in points of UA."""
    return "\n".join([*_curves(result), "", *_grids(result)]) + "\n"


def _curves(result: Mapping[str, Any]) -> Iterator[str]:
    for name, corpus in result["corpora"].items():
        curve = corpus["curve"]
        yield f"| {CORPORA[name]}: labelled speakers | {' | '.join(curve)} |"
        yield "|---" * (len(curve) + 1) + "|"
        for system, title in NAMES.items():
            cells = [_cell(system, of_k["systems"][system]) for of_k in curve.values()]
            yield f"| {title} | {' | '.join(cells)} |"
        yield ""


def _cell(system: str, of_system: Mapping[str, Any]) -> str:
    """UA; of a fused system also its gain, with the interval."""
    if system in ("specialist", "alm", "control"):
        ua = of_system["ua"]
        return f"{100 * ua['value']:.1f} ({100 * ua['low']:.0f} to {100 * ua['high']:.0f})"
    gain = of_system["gain"]
    return f"{_points(gain['value'])} ({_points(gain['low'])} to {_points(gain['high'])})"


def _grids(result: Mapping[str, Any]) -> Iterator[str]:
    for name, corpus in result["corpora"].items():
        grid = corpus["amplification"]
        copies = sorted({int(key.split(",")[1]) for key in grid})
        yield f"| {CORPORA[name]}: ALM alone | {' | '.join(f'b = {b}' for b in copies)} |"
        yield "|---" * (len(copies) + 1) + "|"
        for a in copies:
            cells = []
            for b in copies:
                ua, gain = (grid[f"{a},{b}"][what] for what in ("ua", "gain"))
                if (a, b) == (1, 1):
                    cells.append(f"{100 * ua['value']:.1f}")
                else:
                    between = f"{_points(gain['low'])} to {_points(gain['high'])}"
                    cells.append(f"{_points(gain['value'])} ({between})")
            yield f"| a = {a} | {' | '.join(cells)} |"
        yield ""


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def figure(result: Mapping[str, Any]) -> Figure:
    """UA by labelled speakers, one panel for each corpus; bars are intervals over speakers."""
    drawn, axes = new_figure(len(result["corpora"]), 12.5, 4.2)
    for ax, (name, corpus) in zip(axes, result["corpora"].items(), strict=True):
        curve = corpus["curve"]
        for n, (system, (colour, marker, line)) in enumerate(_DRAWN.items()):
            ua = [of_k["systems"][system]["ua"] for of_k in curve.values()]
            x = [place + 0.06 * (n - 2) for place in range(len(curve))]
            y = [100 * one["value"] for one in ua]
            low = [100 * (one["value"] - one["low"]) for one in ua]
            high = [100 * (one["high"] - one["value"]) for one in ua]
            title = NAMES[system].replace("`", "")
            ax.errorbar(
                x, y, [low, high], color=colour, marker=marker, linestyle=line, label=title, elinewidth=0.8
            )
        alm = curve["1"]["systems"]["alm"]["ua"]["value"]
        ax.axhline(100 * alm, color=GREY, linewidth=0.8)
        ax.text(len(curve) - 1, 100 * alm, "ALM alone", ha="right", va="bottom", fontsize=FONT - 3)
        ax.set_xticks(range(len(curve)), list(curve))
        ax.set_xlabel("labelled speakers")
        ax.set_title(CORPORA[name])
    axes[0].set_ylabel("UA in %")
    axes[-1].legend(fontsize=FONT - 3, loc="lower right")
    return drawn
