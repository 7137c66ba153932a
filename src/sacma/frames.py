"""Tables of plain columns: as pandas or polars data frames, and as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Literal

from sacma.errors import SacmaError, printable, requires

FrameKind = Literal["pandas", "polars"]
SHOWN_ROWS = 10
"""Rows of a table that a notebook shows."""


class Columns(Mapping[str, Sequence[Any]]):
    """A table: name of a column -> its values, all equally many.

    Args:
        columns: the columns by name, in order.

    Raises:
        ValueError: columns of different lengths.

    Example:
        >>> table = Columns({"clip": ["a.mp4", "b.mp4"], "right": [True, False]})
        >>> table["clip"], table.rows, list(table)
        (['a.mp4', 'b.mp4'], 2, ['clip', 'right'])
    """

    def __init__(self, columns: Mapping[str, Iterable[Any]]) -> None:
        self._columns = {name: list(values) for name, values in columns.items()}
        if len({len(values) for values in self._columns.values()}) > 1:
            raise ValueError("the columns of a table are not equally long")

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()), ()))

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """Make a data frame of the table.

        Args:
            kind: ``pandas`` or ``polars``.

        Raises:
            SacmaError: the library is not installed, or ``kind`` is another one.
        """
        return frame_of(self._columns, kind)

    def __repr__(self) -> str:
        return f"Columns({self.rows} rows: {', '.join(self)})"

    def _repr_html_(self) -> str:
        rows = list(zip(*(values[:SHOWN_ROWS] for values in self._columns.values()), strict=True))
        more = f"{SHOWN_ROWS} of {self.rows:,} rows" if self.rows > SHOWN_ROWS else ""
        return html_table(list(self), rows, note=more)


def frame_of(columns: Mapping[str, Any], kind: FrameKind) -> Any:
    """A data frame of columns; arguments and errors as in ``Columns.to_frame``."""
    if kind == "pandas":
        with requires("frames", "a data frame of pandas needs pandas"):
            import pandas
        return pandas.DataFrame(columns)
    if kind == "polars":
        with requires("frames", "a data frame of polars needs polars"):
            import polars
        return polars.DataFrame(columns)
    raise SacmaError(f"no data frames of {printable(kind)}; choose pandas or polars")


def html_table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, head: str = "", note: str = ""
) -> str:
    """An HTML table of plain values; all text is escaped.

    Args:
        titles: of the columns.
        rows: cells, a row each.
        head: line above the table.
        note: line below it.
    """
    parts = [f"<p>{escape(head)}</p>"] if head else []
    parts.append(
        "<table><thead><tr>" + "".join(f"<th>{escape(one)}</th>" for one in titles) + "</tr></thead>"
    )
    body = ("<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>" for row in rows)
    parts.append("<tbody>" + "".join(body) + "</tbody></table>")
    if note:
        parts.append(f"<p>{escape(note)}</p>")
    return "".join(parts)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
