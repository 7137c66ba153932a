"""Tables of columns: as data frames of two libraries, and as HTML in which no clip's name is markup."""

from __future__ import annotations

import pytest

from sacma.errors import SacmaError
from sacma.frames import Columns, frame_of

TABLE = Columns({"clip": ["a <b>.mp4", "c&d"], "probability": [0.25, 1.0]})


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_frame_has_the_columns_and_values(kind: str) -> None:
    pytest.importorskip(kind)
    frame = TABLE.to_frame(kind)  # type: ignore[arg-type]
    assert type(frame).__module__.startswith(kind)
    assert list(frame.columns) == ["clip", "probability"]
    assert list(frame["clip"]) == TABLE["clip"]
    assert list(frame["probability"]) == TABLE["probability"]


def test_another_library_is_refused() -> None:
    with pytest.raises(SacmaError, match="'spark'; choose pandas or polars"):
        frame_of({}, "spark")  # type: ignore[arg-type]


def test_html_escapes_and_is_short() -> None:
    html = TABLE._repr_html_()
    assert "a &lt;b&gt;.mp4" in html
    assert "c&amp;d" in html
    assert "<b>" not in html
    assert "rows" not in html
    long = Columns({"number": range(10_000)})._repr_html_()
    assert "10 of 10,000 rows" in long
    assert long.count("<tr>") == 11


def test_columns_of_one_length() -> None:
    with pytest.raises(ValueError, match="not equally long"):
        Columns({"a": [1], "b": [1, 2]})
