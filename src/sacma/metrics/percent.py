"""Fractions as percent, for tables, pages and CSV files."""

from __future__ import annotations

import math


def percent(share: float | None, *, missing: str = "-", sign: str = "") -> str:
    """A fraction in percent with one decimal: 0.634 gives ``63.4``.

    Args:
        share: the fraction.
        missing: text for None and nan.
        sign: ``+`` to mark positive numbers too.
    """
    return missing if share is None or math.isnan(share) else f"{100 * share:{sign}.1f}"


def mean_and_deviation(mean: float, deviation: float | None, *, sign: str = "") -> str:
    """Mean and standard deviation in percent: ``63.4 ± 1.2``; the mean alone where there is no deviation."""
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:{sign}.1f}{spread}"


def rounded_percent(share: float | None) -> float | str:
    """A fraction in percent with four decimals, for CSV; an empty cell for None."""
    return "" if share is None else round(100 * share, 4)
