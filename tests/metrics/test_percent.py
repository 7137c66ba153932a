"""Fractions as percent."""

from __future__ import annotations

import math

from sacma.metrics.percent import mean_and_deviation, percent, rounded_percent


def test_a_fraction_has_one_decimal() -> None:
    assert percent(0.6344) == "63.4"
    assert percent(0.05, sign="+") == "+5.0"
    assert percent(-0.05, sign="+") == "-5.0"


def test_a_missing_fraction_is_marked() -> None:
    assert percent(None) == percent(math.nan) == "-"
    assert percent(None, missing="–") == "–"


def test_a_single_seed_has_no_deviation() -> None:
    assert mean_and_deviation(0.5, 0.0123) == "50.0 ± 1.2"
    assert mean_and_deviation(0.5, None) == "50.0"
    assert mean_and_deviation(0.021, 0.01, sign="+") == "+2.1 ± 1.0"


def test_a_csv_cell_is_a_number_or_empty() -> None:
    assert rounded_percent(1 / 3) == 33.3333
    assert rounded_percent(None) == ""
