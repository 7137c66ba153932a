"""Drawing with matplotlib: the style of all figures, and the charts of the report as inline SVG.

Colours are those of Okabe and Ito (2008), for colour-blind readers; marker and line style repeat the
distinction. Inline SVG contains text as text and takes the colours of the page, light or dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacma.errors import requires

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (1, 2)))
# Placeholders for the colours of the page.
TEXT, GRID, PAPER = "#010101", "#020202", "#030303"
PAGE_COLOURS = {TEXT: "currentColor", GRID: "var(--line)", PAPER: "var(--card)"}
WIDTH, HEIGHT = 4.4, 3.0  # inches of 72 points: readable on a phone without being made smaller
_RC = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.hashsalt": "sacma",
    "text.parse_math": False,  # a class name may have a dollar sign
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Line:
    """A line of a chart, perhaps with the range of several runs around it.

    Attributes:
        x: (N,).
        y: (N,).
        low: (N,) lower end of the range; None for none.
        high: (N,) upper end.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@contextmanager
def drawing(*, page: bool) -> Iterator[Any]:
    """Our style within a context, which gives matplotlib's ``Figure``; needs no window system."""
    with requires("report", "figures need matplotlib"):
        import matplotlib as mpl
        from matplotlib.figure import Figure
    text, grid, paper = (TEXT, GRID, PAPER) if page else ("#1a1a1a", "#d0d0d0", "#ffffff")
    colours = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), text),
        **dict.fromkeys(("axes.edgecolor", "axes.titlecolor"), text),
        "grid.color": grid,
        "figure.facecolor": "none" if page else paper,
        "axes.facecolor": "none",
        "svg.fonttype": "none" if page else "path",
    }
    with mpl.rc_context({**_RC, **colours}):
        yield Figure


def save(figure: Any, path: Path, *, kind: str) -> None:
    """Write a figure as ``png`` or ``svg``, the same bytes for the same figure."""
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with drawing(page=False):
        figure.savefig(path, format=kind, dpi=160, metadata=metadata)


def inline_svg(figure: Any) -> str:
    """A figure as an ``<svg>`` element that scales with its container and takes the colours of the page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # no two elements of a page may share one
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r' (d|x|y)="[^"]*"', _rounded, svg)
    for colour, ours in PAGE_COLOURS.items():
        svg = svg.replace(colour, ours)
    return re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 system-ui, sans-serif", svg)


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates rounded to a hundredth of a point, which halves the size."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute.group())


def check() -> None:
    """Check that figures can be drawn, before long work.

    Raises:
        SacmaError: matplotlib is not installed.
    """
    with drawing(page=False):
        pass


# --- Charts of the report -----------------------------------------------------------------------------


def curves(
    lines: Mapping[str, Line], *, ylabel: str, marked: Sequence[float] = (), percent: bool = False
) -> str:
    """Lines over epochs, named in a legend below.

    Args:
        lines: name -> line.
        ylabel: of the vertical axis.
        marked: chosen epochs, shown as vertical lines.
        percent: True if the values are fractions, to be shown in percent.
    """
    with drawing(page=True) as figure_class:
        figure = figure_class(figsize=(WIDTH, HEIGHT))
        axis = figure.subplots()
        scale = 100 if percent else 1
        for number, (name, line) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            x, y = np.asarray(line.x), scale * np.asarray(line.y)
            axis.plot(
                x,
                y,
                color=colour,
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                markevery=max(1, len(x) // 6),
                label=_short(name),
            )
            if line.low is not None and line.high is not None:
                low, high = scale * np.asarray(line.low), scale * np.asarray(line.high)
                axis.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
        for place, epoch in enumerate(sorted(set(marked))):
            axis.axvline(
                epoch, color=TEXT, linewidth=1, linestyle=":", label=None if place else "chosen epoch"
            )
        axis.set_xlabel("epoch")
        axis.set_ylabel(ylabel)
        axis.xaxis.get_major_locator().set_params(integer=True)
        _legend_below(figure, axis)
        return inline_svg(figure)


def seen_unseen(
    lines: Sequence[Line], chosen: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]]
) -> str:
    """S over U at all biases.

    Args:
        lines: one for each run; x is U, y is S, as fractions.
        chosen: (U, S) at each run's bias.
        best: (U, S) at the largest HM on the test clips, for comparison.
    """
    with drawing(page=True) as figure_class:
        figure = figure_class(figsize=(WIDTH, 3.9))
        axis = figure.subplots()
        _seen_over_unseen(axis, lines)
        for line in lines:
            u, s = 100 * np.asarray(line.x), 100 * np.asarray(line.y)
            axis.plot(u, s, color=COLOURS[0], linewidth=1.6 if len(lines) == 1 else 1.0, alpha=0.85)
            if len(lines) == 1:
                axis.fill_between(u, 0, s, color=COLOURS[0], alpha=0.12, linewidth=0)
        _points(
            axis, best, marker="D", facecolors="none", edgecolors=COLOURS[2], label="largest HM, not used"
        )
        _points(axis, chosen, marker="o", facecolors=COLOURS[1], edgecolors=PAPER, label="at the chosen bias")
        _legend_below(figure, axis)
        return inline_svg(figure)


def seen_unseen_of_all(lines: Mapping[str, Line], chosen: Sequence[tuple[float, float]]) -> str:
    """S over U at all biases, a line for each of several configurations.

    Args:
        lines: label -> line; x is U, y is S, as fractions.
        chosen: (U, S) at the bias of each.
    """
    with drawing(page=True) as figure_class:
        figure = figure_class(figsize=(1.5 * WIDTH, 3.9 + 0.2 * math.ceil(len(lines) / 3)))
        axis = figure.subplots()
        _seen_over_unseen(axis, lines.values())
        for number, ((label, line), point) in enumerate(zip(lines.items(), chosen, strict=True)):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            dashes = DASHES[(number + number // len(COLOURS)) % len(DASHES)]
            u, s = 100 * np.asarray(line.x), 100 * np.asarray(line.y)
            axis.plot(u, s, color=colour, linestyle=dashes, linewidth=1.3, label=_short(label))
            _points(axis, [point], marker=marker, facecolors=colour, edgecolors=PAPER)
        _legend_below(figure, axis)
        return inline_svg(figure)


def _seen_over_unseen(axis: Any, lines: Collection[Line]) -> None:
    """The frame for curves of S over U: as wide and high as they are, with lines of constant HM."""
    right, top = (105 * max(1e-3, *(max(getattr(line, end)) for line in lines)) for end in ("x", "y"))
    _harmonic_lines(axis, right, top)
    axis.set_xlim(0, right)
    axis.set_ylim(0, top)
    axis.set_xlabel("U, mean accuracy of unseen classes (%)")
    axis.set_ylabel("S, of seen classes (%)")


def _points(axis: Any, points: Sequence[tuple[float, float]], **how: Any) -> None:
    x, y = 100 * np.asarray(points, dtype=float).reshape(-1, 2).T
    axis.scatter(x, y, s=46, linewidths=1.3, zorder=3, clip_on=False, **how)


def _harmonic_lines(axis: Any, right: float, top: float) -> None:
    """Lines of constant HM at some four round values; the axes end at U = right and S = top."""
    largest = 2 * right * top / (right + top)
    step = next((one for one in (0.5, 1, 2, 5, 10) if largest / one <= 5), 20)
    for mean in np.arange(step, largest, step):
        u = np.linspace(mean * top / (2 * top - mean), right, 100)
        axis.plot(u, mean * u / (2 * u - mean), color=GRID, linewidth=0.9, linestyle=(0, (4, 2)))
        on_diagonal = mean * (right + top) / 2
        place = (on_diagonal / top, on_diagonal / right)
        axis.annotate(f"HM {mean:g}", place, fontsize=7.5, color=TEXT, alpha=0.65, ha="center", va="center")


def comparison(name: str, groups: Mapping[str, Sequence[float]]) -> str:
    """One measure of several configurations: a mark for each seed, a bar at the mean.

    Args:
        name: of the measure, such as HM.
        groups: label -> values over seeds, as fractions.
    """
    with drawing(page=True) as figure_class:
        figure = figure_class(figsize=(WIDTH, 0.7 + 0.34 * len(groups)))
        axis = figure.subplots()
        for row, values in enumerate(groups.values()):
            percent = 100 * np.asarray(values)
            colour, marker = COLOURS[row % len(COLOURS)], MARKERS[row % len(MARKERS)]
            style = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.2}
            axis.scatter(percent, np.full(len(percent), row), s=28, marker=marker, **style)
            axis.plot([percent.mean()] * 2, [row - 0.3, row + 0.3], color=TEXT, linewidth=2)
        axis.set_xlabel(f"{name} (%)")
        axis.grid(visible=False, axis="y")
        axis.set_yticks(range(len(groups)), [_short(label) for label in groups])
        axis.set_ylim(len(groups) - 0.5, -0.5)
        return inline_svg(figure)


def _short(label: str, most: int = 26) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _legend_below(figure: Any, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3 if len(labels) > 2 else 2, handlelength=2.6
    )
