"""Moments of a clip as people write them."""

from __future__ import annotations

import re

from sacma.errors import SacmaError, printable

_MOMENT = re.compile(r"(?a)(?:(?:(\d{1,3}):)?(\d{1,4}):)?(\d{1,6}(?:[.,]\d{1,3})?)")


def seconds_of(text: str, what: str) -> float | None:
    """Seconds of a moment: 75, 1:15, 0:01:15; None where nothing is written.

    Args:
        text: what a visitor wrote.
        what: name of the field, for errors.

    Raises:
        SacmaError: it is no moment.

    >>> seconds_of("1:15", "Start"), seconds_of("12.5", "Start"), seconds_of(" ", "Start")
    (75.0, 12.5, None)
    """
    if not (written := text.strip()):
        return None
    found = _MOMENT.fullmatch(written)
    if found is None:
        raise SacmaError(
            f"{what} is {printable(written)}; write seconds, such as 75, or minutes, such as 1:15"
        )
    hours, minutes, rest = found.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(rest.replace(",", "."))


def shown(seconds: float) -> str:
    """A moment as a player shows it.

    >>> shown(75), shown(3.5), shown(3600)
    ('1:15', '0:03.5', '1:00:00')
    """
    tenths = round(seconds * 10)
    whole, tenth = divmod(tenths, 10)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest:02d}" + (f".{tenth}" if tenth else "")
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
