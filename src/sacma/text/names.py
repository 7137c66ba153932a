"""Class names as people give them: a list, CSV, or a file with one a line."""

from __future__ import annotations

import ast
import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from sacma.errors import SacmaError

MOST_NAMES = 100_000
LONGEST_NAME = 200
_LARGEST_FILE = MOST_NAMES * LONGEST_NAME

_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
_BETWEEN = re.compile(r"[\W_]+")


def read_names(given: str | Iterable[str], *, files: bool = True) -> tuple[str, ...]:
    """Different names, in the order given.

    Args:
        given: names; or a text with names in CSV, so that a name with a comma is quoted; or ``@FILE`` for a
            text file with one name a line, in which empty lines and spaces around a name do not count.
        files: whether ``@FILE`` is one; otherwise, as for text from strangers, it is a name like others.

    Raises:
        SacmaError: no name, an empty one, one twice (whatever its case), one that is no text or too long, too
            many, or a file that cannot be read.
    """
    names = listed(given, files=files) if isinstance(given, str) else [_text(name).strip() for name in given]
    if not names:
        raise SacmaError("no class names; give at least one")
    if len(names) > MOST_NAMES:
        raise SacmaError(f"{len(names):,} class names, at most {MOST_NAMES:,} are taken; give fewer")
    first: dict[str, str] = {}
    for place, name in enumerate(names, start=1):
        key = normal(name)
        if not key:
            raise SacmaError(f"class name {place} is {name!r}; a name needs at least one letter or digit")
        if len(name) > LONGEST_NAME:
            raise SacmaError(f"class name {place} ({name[:40]}...) is longer than {LONGEST_NAME} characters")
        if key in first:
            same = "" if first[key] == name else f" (as {first[key]!r})"
            raise SacmaError(f"class name {name!r} is there twice{same}; give each name once")
        first[key] = name
    return tuple(names)


def normal(name: str) -> str:
    """The same for names that differ in case or in how words are joined: PlayingFlute, playing flute."""
    return _BETWEEN.sub(" ", _CAMEL.sub(" ", name)).strip().casefold()


class Spelling:
    """Finds class names in any case: UCF has HandstandPushups, but its lists say HandStandPushups."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = frozenset(names)
        folded: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._exact):
            folded[name.casefold()].append(name)
        self._folded = {key: same[0] for key, same in folded.items() if len(same) == 1}

    def find(self, name: str) -> str | None:
        return name if name in self._exact else self._folded.get(name.casefold())


def decoded(name: object) -> str:
    """Return a name from a data file as text.

    Args:
        name: text; UTF-8 bytes; or text that shows bytes as Python writes them, such as ``b'cat'``.

    Raises:
        ValueError: the name is of another type, or its bytes are not UTF-8.
    """
    if isinstance(name, str) and re.fullmatch(r"b'.*'|b\".*\"", name, re.DOTALL):
        name = ast.literal_eval(name)  # understands literals and nothing else
    if isinstance(name, bytes | memoryview):
        return bytes(name).decode("utf-8")
    if not isinstance(name, str):
        raise ValueError(f"a name is {type(name).__name__}, expected text")
    return str(name)


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise SacmaError(f"class name {name!r} is no text")
    return name


def listed(given: str, *, files: bool = True) -> list[str]:
    """The names in a text, as they stand there; see ``read_names``.

    Raises:
        SacmaError: a quotation mark is not closed, or a file cannot be read.
    """
    if files and given.startswith("@"):
        return [line.strip() for line in _read(Path(given[1:])).splitlines() if line.strip()]
    if not given.strip():
        return []
    if given.count('"') % 2:
        raise SacmaError(
            f"class names {given[:60]!r}: a quotation mark is not closed; quote names with commas"
        )
    rows = csv.reader(given.splitlines(), skipinitialspace=True)
    return [name.strip() for row in rows for name in row]


def _read(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > _LARGEST_FILE:
            raise SacmaError(f"{path}: too large for a list of class names; one name a line is expected")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SacmaError(f"{path}: cannot be read as a list of class names: {reason}") from error
