"""Moments for JSON, as CSV and as a table for the screen."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from sacma.library.search import Found, Moment
from sacma.media.listing import plain_text

COLUMNS = ("rank", "clip", "start", "end", "score", "class", "status")
NOTES = {"": "", "gone": "gone", "changed": "changed since it was indexed"}


def to_dict(found: Found, asked: str) -> dict[str, Any]:
    """Question, moments, the best first, and whether any fits, as JSON types."""
    rows = [one.to_dict() | {"clip": plain_text(one.clip)} for one in found]
    return {"search": asked, "moments": rows, "fits": found.fits, "note": found.note}


def to_csv(moments: Sequence[Moment]) -> str:
    """A row for each moment, the best first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, one in enumerate(moments, start=1):
        times = (f"{one.start:.3f}", f"{one.end:.3f}", f"{one.score:.6g}")
        writer.writerow((rank, _cell(one.clip), *times, _cell(one.class_name), one.status))
    return text.getvalue()


def to_table(moments: Sequence[Moment]) -> Table:
    """For people."""
    table = Table()
    for name in ("", "score", "from", "to"):
        table.add_column(name, justify="right")
    table.add_column("clip", overflow="fold")
    for rank, one in enumerate(moments, start=1):
        note = f" ({NOTES[one.status]})" if one.status else ""
        times = (f"{one.start:.1f}", f"{one.end:.1f}")
        table.add_row(str(rank), f"{one.score:.3f}", *times, plain_text(one.clip) + note)
    return table


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: it gets an apostrophe in front."""
    plain = plain_text(text)
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@", "\t", "\r")) else plain
