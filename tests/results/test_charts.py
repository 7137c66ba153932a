"""Charts of the report as inline SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from sacma.results import charts
from sacma.results.charts import PAGE_COLOURS, Line


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(re.sub(r"xlink:|var\(--\w+\)", "", svg))
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]


def test_curves_name_each_line_and_the_chosen_epoch() -> None:
    lines = {"HM": Line([1, 2, 3], [0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.2, 0.3, 0.4]), "S": Line([1], [0.5])}
    svg = charts.curves(lines, ylabel="validation (%)", marked=[2, 2], percent=True)
    shown = texts(svg)
    for text in ("HM", "S", "epoch", "validation (%)", "chosen epoch"):
        assert shown.count(text) == 1, text


def test_a_dollar_sign_is_a_dollar_sign() -> None:
    assert "a $x_1$ b" in texts(charts.comparison("HM", {"a $x_1$ b": [0.1, 0.2], "other": [0.3]}))


def test_inline_svg_takes_the_colours_of_the_page_and_has_no_ids_in_common() -> None:
    line = Line([0.0, 0.3], [0.4, 0.0])
    svg = charts.seen_unseen([line], [(0.1, 0.2)], [(0.2, 0.2)])
    assert svg.startswith("<svg ")
    assert "currentColor" in svg
    assert not [colour for colour in PAGE_COLOURS if colour in svg]
    assert "<g id=" not in svg
    assert svg == charts.seen_unseen([line], [(0.1, 0.2)], [(0.2, 0.2)])
    assert "HM " in " ".join(texts(svg))
