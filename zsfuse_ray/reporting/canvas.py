"""Shared parts of all figures: colours, axes, heat maps, files; legible without colour vision."""

import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zsfuse_ray.runs.folder import Output

# Okabe & Ito's colour-blind-safe palette; a marker or line style always adds to the colour.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6B6B6B"
FONT = 11
FIGURES = "figures"  # the folder


def write_figures(out: Output, figures: Iterable[tuple[str, Figure]]) -> None:
    """Write named figures to FIGURES, each as PNG and SVG."""
    for name, figure in figures:
        for form in ("png", "svg"):
            out.write_bytes(f"{FIGURES}/{name}.{form}", image(figure, form))


def image(figure: Figure, form: str) -> bytes:
    """Return the figure as a file, "png" or "svg"; the same bytes for the same figure."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    stamp: Any = {"Date": None} if form == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "zsfuse_ray"}):  # fixed SVG ids, random by default
        figure.savefig(file, format=form, dpi=160, metadata=stamp)
    return file.getvalue()


def new_figure(
    columns: int, width: float, height: float, rows: int = 1, **how: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with rows of axes; without pyplot, so without global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **how).ravel().tolist()
    for ax in axes:
        ax.tick_params(labelsize=FONT - 1)
        ax.xaxis.label.set_size(FONT)
        ax.yaxis.label.set_size(FONT)
        ax.title.set_size(FONT)
    return figure, axes


def heat_map(
    ax: Axes,
    values: NDArray[Any],
    text: Callable[[int, int, float], str],
    limits: tuple[float, float],
    white_above: float | None = None,
    **how: Any,
) -> None:
    """Draw values (rows, columns) as coloured cells with text in them.

    limits: values of the first and last colour. white_above: text is white above this value, for a dark last
    colour; by default it is white up to the middle, for a dark first colour.
    """
    low, high = limits
    ax.imshow(values, vmin=low, vmax=max(high, low + 1e-6), **how)
    for (row, column), value in np.ndenumerate(values):
        white = value <= (low + high) / 2 if white_above is None else value > white_above
        ax.text(
            column,
            row,
            text(row, column, float(value)),
            ha="center",
            va="center",
            color="white" if white else "black",
            fontsize=FONT - 2,
        )


def over_copies(
    title: str,
    a: Sequence[int],
    b: Sequence[int],
    maps: Mapping[str, NDArray[Any]],
    *,
    marked: Collection[tuple[int, int]] = (),
    same_colours: bool = False,
) -> Figure:
    """Heat maps of values (A, B), by title, over copies of audio (a) and text (b).

    marked: the (a, b) with a star; same_colours: whether all maps share one colour scale.
    """
    width = (1.8 + 0.85 * len(b)) * len(maps) + 1.5
    figure, axes = new_figure(len(maps), max(width, 6.5), 1.9 + 0.65 * len(a))
    every = np.stack(list(maps.values()))
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        scaled = every if same_colours else values

        def text(row: int, column: int, value: float) -> str:
            return f"{value:.1f}" + (" ★" if (a[row], b[column]) in marked else "")

        heat_map(ax, values, text, (scaled.min(), scaled.max()), cmap="cividis", aspect="auto")
        ax.set_xticks(range(len(b)), list(map(str, b)))
        ax.set_yticks(range(len(a)), list(map(str, a)))
        ax.set_xlabel("b: copies of the prompt")
        ax.set_title(name)
    axes[0].set_ylabel("a: copies of the audio")
    figure.suptitle(title)
    return figure
