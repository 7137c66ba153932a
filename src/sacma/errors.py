"""The one exception for mistakes that a user can mend: one line on the command line, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice


class SacmaError(Exception):
    """Bad input. The message names the file or value, says what was expected and what to do."""


def printable(value: object, *, limit: int = 60) -> str:
    """Show a value that came from outside, for a message, in bounded time and length.

    The ``repr`` of such a value may never end: a file of 1 kB can hold lists within lists that stand for
    10^20 items. Of a collection the first three items are shown, and of those within it the type alone.

    Args:
        value: anything, such as text of a file, a number or a collection.
        limit: characters of text that are shown.

    >>> printable([1, "ant", [2, 3], 4])
    "[1, 'ant', a list, ...]"
    >>> printable("x" * 100, limit=5)
    "'xxxxx...'"
    """
    if isinstance(value, list | tuple | set | frozenset):
        items = [_single(item, limit) for item in islice(value, 3)]
        ends = "()" if isinstance(value, tuple) else "[]" if isinstance(value, list) else "{}"
        return ends[0] + ", ".join(items + ["..."] * (len(value) > 3)) + ends[1]
    if isinstance(value, dict):
        pairs = [f"{_single(key, limit)}: {_single(item, limit)}" for key, item in islice(value.items(), 3)]
        return "{" + ", ".join(pairs + ["..."] * (len(value) > 3)) + "}"
    return _single(value, limit)


def _single(value: object, limit: int) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= limit else value[:limit] + "...")
    if isinstance(value, bytes):
        return repr(value if len(value) <= limit else value[:limit] + b"...")
    if isinstance(value, int) and value.bit_length() > 100:
        return f"a whole number of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a {type(value).__name__}"[:limit]


def one_line(error: BaseException, *, limit: int = 1000) -> str:
    """Message of an error without line breaks, in bounded time and length.

    What Python raises may hold values of a file, and their ``repr`` may never end; see ``printable``.
    """
    plain = type(error).__str__ in (BaseException.__str__, KeyError.__str__)
    if plain and not (len(error.args) == 1 and isinstance(error.args[0], str)):
        text = ", ".join(printable(value) for value in error.args[:3])
    else:
        text = str(error)
    text = " ".join(text[: 10 * limit].split())
    return text if len(text) <= limit else text[:limit] + "..."


def some_of(names: Sequence[str], *, limit: int = 5) -> str:
    """Join names for a message; of a long list the first ones and the number of the others.

    >>> some_of(["ant", "bee", "cat"], limit=2)
    'ant, bee and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def meant(given: object, known: Iterable[str]) -> str:
    """``; did you mean X?`` for what is nearly a known name, else nothing.

    >>> meant("trian", ["train", "tune"])
    '; did you mean train?'
    >>> meant("xyz", ["train", "tune"]), meant(3, ["train", "tune"])
    ('', '')
    """
    if not isinstance(given, str):  # a file may hold anything
        return ""
    near = difflib.get_close_matches(given[:100], list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


@contextmanager
def requires(extra: str, need: str | None = None) -> Iterator[None]:
    """Within are imports that come with an extra of this package.

    Args:
        extra: its name.
        need: what needs what, such as "figures need matplotlib"; by default that the module is missing.

    Raises:
        SacmaError: something of it is not installed.
    """
    try:
        yield
    except ImportError as error:
        need = need or f"{error.name or error} is missing"
        raise SacmaError(f"{need}; install it with: pip install 'sacma[{extra}]'") from error
