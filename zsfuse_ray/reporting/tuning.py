"""``tune.json`` as a Markdown page, with figures over amplification, weight and prompts."""

import textwrap
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from zsfuse_ray.reporting.canvas import (
    BLUE,
    FIGURES,
    GREEN,
    GREY,
    ORANGE,
    RED,
    new_figure,
    over_copies,
    write_figures,
)
from zsfuse_ray.reporting.cells import percent
from zsfuse_ray.runs.folder import Output

PAGE = "tune.md"
_OBJECTIVES = {"ua": "UA", "wa": "WA", "macro_f1": "macro-F1", "nll": "−NLL"}


def write(out: Output, result: Mapping[str, Any]) -> str:
    """Write tune.md and figures/ of a tuning; returns the summary to print."""
    write_figures(out, draw(result))
    out.write_bytes(PAGE, page(result).encode())
    last = f"tuned: {out.uri}/tuned.yaml   page: {out.uri}/{PAGE}   figures: {out.uri}/{FIGURES}"
    return "\n".join([*_overview(result), "", last])


def draw(result: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Yield (name, figure); figures without data are left out."""
    yield "amplification", amplification(result)
    if result["weight_curve"]:
        yield "weight", weight(result)
    yield "prompts", prompts(result)


def amplification(result: Mapping[str, Any]) -> Figure:
    """Best score over copies of audio (a) and text (b), of the ALM alone and fused."""
    table = result["amplification"]
    maps = {"ALM alone": 100 * np.array(table["alm"])}
    if "specialist" in result["systems"]:
        maps["fused with the specialist"] = 100 * np.array(table["fused"])
    title = f"best {_name(result)} × 100 over amplification, in-sample"
    return over_copies(title, table["a"], table["b"], maps)


def weight(result: Mapping[str, Any]) -> Figure:
    """UA over the fusion weight w for each fusion rule, with its interval over speakers."""
    curve = result["weight_curve"]
    figure, (ax,) = new_figure(1, 7.5, 4.8)
    rules = {rule: points for rule, points in curve.items() if rule != "weights"}
    styles = cycle(((BLUE, "-"), (ORANGE, "--"), (GREY, "-.")))
    for (rule, points), (colour, line) in zip(rules.items(), styles, strict=False):
        value, low, high = ([point[key] for point in points] for key in ("value", "low", "high"))
        ax.plot(curve["weights"], 100 * np.array(value), color=colour, linestyle=line, label=rule)
        if None not in low:
            band = 100 * np.array(low, float), 100 * np.array(high, float)
            ax.fill_between(curve["weights"], *band, color=colour, alpha=0.15, linewidth=0)
    chosen = result["tuned"]["options"]["weight"]
    ax.axvline(chosen, color=RED, linestyle=":", linewidth=1.8, label=f"written: w = {chosen:g}")
    ax.set_xlabel("w: 0 is the specialist, 1 the ALM")
    ax.set_ylabel("UA in %, band: 95 % interval over speakers")
    ax.set_title("UA over the fusion weight, other options as in the best; in-sample")
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def prompts(result: Mapping[str, Any]) -> Figure:
    """Effect of each template on the mean score of subsets, for the ALM alone and fused."""
    shown = [name for name in ("alm", "fused") if name == "alm" or "specialist" in result["systems"]]
    rows = [row for row in result["prompts"] if row["alm"] is not None]
    rows.sort(key=lambda row: row["alm"])
    figure, (ax,) = new_figure(1, 9.0, 1.8 + 0.42 * len(rows))
    height = 0.8 / len(shown)
    for n, (name, colour, hatch) in enumerate((("alm", BLUE, ""), ("fused", GREEN, "//"))[: len(shown)]):
        places = np.arange(len(rows)) - (n - (len(shown) - 1) / 2) * height
        label = "ALM alone" if name == "alm" else "fused, best weight"
        ax.barh(places, [100 * row[name] for row in rows], height, color=colour, hatch=hatch, label=label)
    ax.set_yticks(range(len(rows)), [textwrap.shorten(row["template"], 42) for row in rows])
    ax.axvline(0, color="black", linewidth=1)
    ax.set_xlabel(f"points of {_name(result)}: mean of the subsets with it − mean of those without")
    ax.set_title("contribution of each template, in-sample")
    ax.grid(axis="x", alpha=0.3)
    if rows:
        ax.legend()
    return figure


def page(result: Mapping[str, Any]) -> str:
    """Return the whole page."""
    tuned = result["tuned"]["options"]
    lines = ["# Tuning", "", *_overview(result), "", "## Options written to tuned.yaml", ""]
    lines += [f"- {key}: {_plain(value)}" for key, value in tuned.items()]
    lines += ["", *_calibration(result["tuned"]["calibration"])]
    lines += ["", "The best configuration in-sample, used in the figures:", ""]
    lines += [f"- {key}: {_plain(value)}" for key, value in result["best_in_sample"].items()]
    lines += ["", "## Choices for each fold, made on the other folds", ""]
    for key, system in result["systems"].items():
        if key in ("chosen", "best"):
            lines += [f"{system['name']}:", ""]
            lines += [f"- fold {n}: {_choice(one)}" for n, one in enumerate(system["choices"], start=1)]
            lines.append("")
    lines += [f"![{name}]({FIGURES}/{name}.png)" for name, _ in draw(result)]
    lines += ["", "## How to read it", "", *_explained(result)]
    return "\n".join(lines) + "\n"


def _overview(result: Mapping[str, Any]) -> Iterator[str]:
    name = _name(result)
    yield f"| | {name} nested | {name} in-sample | gap | UA nested in % (95 % interval) |"
    yield "|---|---|---|---|---|"
    for system in result["systems"].values():
        values = " | ".join(f"{system[key]:.3f}" for key in ("nested", "in_sample", "gap"))
        yield f"| {system['name']} | {values} | {percent(system['ua'])} |"
    yield ""
    yield f"**{result['tuned']['verdict']}**"
    yield ""
    if why := result["no_interval"]:
        yield f"no intervals: {why}"
    search = result["search"]
    yield (
        f"{search['configurations']:,} configurations in {search['blocks']} blocks, "
        f"{search['seconds']:,.1f} s; "
        f"{result['clips']['encoded']:,} clips of {result['speakers'] or 'unnamed'} speakers in "
        f"{result['clips']['folds']} folds; chance is {100 * result['chance']:.1f} % UA"
    )
    for name, what in (("a", "audio"), ("b", "text")):
        if none := result["amplification"][f"no_effect_{name}"]:
            copies = ", ".join(map(str, none))
            yield f"no-op copies of the {what}, left out: {name} = {copies}"
    if search["failed"]:
        yield f"failed and left out: {', '.join(search['failed'])}"
    for warning in result["seen_in_training"].values():
        yield f"In-sample? {warning}."


def _calibration(table: Mapping[str, Any]) -> Iterator[str]:
    left_out = table["left_out"]
    yield "Calibration with these options: before, all temperatures are 1;"
    yield f"after, those of each {left_out} are fitted on the others."
    yield ""
    yield "| | ECE in % before | after | NLL in nats before | after |"
    yield "|---|---|---|---|---|"
    for system in table["systems"].values():
        cells = [f"{100 * system[when]['ece']:.1f}" for when in ("before", "after")]
        cells += [f"{system[when]['nll']:.3f}" for when in ("before", "after")]
        yield f"| {system['name']} | {' | '.join(cells)} |"


def _explained(result: Mapping[str, Any]) -> Iterator[str]:
    yield "- Nested: each fold's clips are predicted by the choice made on the other folds (other speakers)."
    yield "- In-sample: the score on the clips used for the choice. The gap to nested is the selection bias."
    yield "- One standard error: of the configurations within one standard error (over folds) of the best,"
    yield "  the specialist alone, else the one with fewest templates, then copies, then smallest weight."
    yield f"- Intervals: {result['config']['resamples']:,} bootstraps over speakers, expanded percentiles."
    if not result["search"]["exhaustive"]:
        yield "- Too many templates for all subsets: greedy selection, then Optuna's proposals, per fold."


def _choice(one: Mapping[str, Any]) -> str:
    parts = [f"w {one['weight']:g}"]
    if one["weight"] > 0:
        parts += [f"{len(one['templates'])} templates", f"a {one['a']}", f"b {one['b']}", one["ensemble"]]
        parts += [one["fusion"], f"T {one['temperature']:g}"]
    return ", ".join(parts)


def _plain(value: Any) -> str:
    return " | ".join(f"`{v}`" for v in value) if isinstance(value, list | tuple) else f"`{value}`"


def _name(result: Mapping[str, Any]) -> str:
    return _OBJECTIVES[result["config"]["objective"]]
