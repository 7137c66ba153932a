"""The one exception for mistakes that a user can mend: one line on the command line, exit status 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class SacmaError(Exception):
    """Bad input. The message names the file or value, says what was expected and what to do."""


def one_line(error: BaseException) -> str:
    """Message of an error without line breaks."""
    return " ".join(str(error).split())


def some_of(names: Sequence[str], *, limit: int = 5) -> str:
    """Join names for a message; of a long list the first ones and the number of the others.

    >>> some_of(["ant", "bee", "cat"], limit=2)
    'ant, bee and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


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
