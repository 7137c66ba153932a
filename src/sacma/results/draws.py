"""The table of methods over random class splits: differences to the first method, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from sacma.metrics.percent import mean_and_deviation, percent
from sacma.metrics.significance import LEAST_DRAWS, mean_interval
from sacma.results.tables import Comparison, RowGroup
from sacma.studies.random_splits import Drawn

COMPARED = ("HM", "ZSL", "AUSUC")
INTERVAL = (
    "paired t over draws, which share classes and clips: it is of other splits of the same data, not of "
    "other data"
)


def compare_draws(drawn: Drawn, title: str) -> Comparison:
    """Mean and deviation over draws, and by how much the first row is above each other one.

    Raises:
        SacmaError: there are enough draws for intervals, and scipy is not installed.
    """
    rows = drawn.rows
    ours, *_ = rows
    draws = len(ours.figures["HM"])
    columns = ["method", *ours.figures]
    columns += [text for name in COMPARED for text in (f"{ours.row.label} {name}", "95 %")]
    cells = []
    mark = f" {drawn.overlap.mark}" if drawn.overlap else ""
    for row in rows:
        pairs = [(ours.figures[name], row.figures[name]) for name in COMPARED]
        differences = [["", ""] if row is ours else _difference(*pair) for pair in pairs]
        cells.append([row.row.label + mark, *map(_spread, row.figures.values()), *chain(*differences)])
    notes = [
        "mean ± standard deviation over draws of classes, percent",
        f"{ours.row.label} {', '.join(COMPARED)}: how much it is above the row, mean over draws; 95 %: "
        + (INTERVAL if draws >= LEAST_DRAWS else f"none for {draws}, from {LEAST_DRAWS} draws on"),
        *drawn.notes,
        *([drawn.overlap.note] if drawn.overlap else []),
        *(f"{row.row.label}: {note}" for row in rows for note in row.row.notes),
    ]
    return Comparison(title, columns, [RowGroup("", cells)], notes)


def _spread(values: Sequence[float]) -> str:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return mean_and_deviation(float(np.mean(values)), deviation)


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
    differences = [own - other for own, other in zip(ours, theirs, strict=True)]
    low, high = mean_interval(differences)
    interval = "" if math.isnan(low) else f"{percent(low, sign='+')} to {percent(high, sign='+')}"
    return [percent(float(np.mean(differences)), sign="+"), interval]
