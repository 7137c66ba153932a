"""Class names: lists of them, and the canonical form by which they are compared."""

from __future__ import annotations

import ast
import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from sacma.errors import SacmaError, printable
from sacma.files import read_text

MOST_NAMES = 100_000
LONGEST_NAME = 200
_LARGEST_FILE = MOST_NAMES * LONGEST_NAME


def read_names(given: str | Iterable[str], *, files: bool = True) -> tuple[str, ...]:
    """Read a list of class names, in the order given; all must differ.

    Args:
        given: names; or a text with names in CSV, so that a name with a comma is quoted; or ``@FILE`` for a
            text file with one name a line, in which empty lines and spaces around a name do not count.
        files: whether ``@FILE`` is one; otherwise, as for text from strangers, it is a name like others.

    Raises:
        SacmaError: no name, an empty one, one twice in any spelling, one that is no text or too long, too
            many names, or a file that cannot be read.
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
            raise SacmaError(
                f"class name {place} is {printable(name)}; a name needs at least one letter or digit"
            )
        if len(name) > LONGEST_NAME:
            raise SacmaError(f"class name {place} ({name[:40]}...) is longer than {LONGEST_NAME} characters")
        if key in first:
            same = "" if first[key] == name else f" (as {printable(first[key])})"
            raise SacmaError(f"class name {printable(name)} is there twice{same}; give each name once")
        first[key] = name
    return tuple(names)


def normal(name: str) -> str:
    """Return the canonical form of a class name: two names with the same form are one class.

    Case, spacing, hyphens, underscores and other punctuation do not count, and neither does the Unicode form.
    Letters, digits, combining marks, symbols and ``#`` count, so that names in any script, C++ and C#, and
    emoji stay distinct. Separate numbers stay separate: "room 1-2" is not "room 12".

    >>> normal("PlayingFlute"), normal("playing_flute"), normal("C++"), normal("room 1-2")
    ('playingflute', 'playingflute', 'c++', 'room1 2')
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    form = ""
    for piece in "".join(letter if _counts(letter) else " " for letter in folded).split():
        between_numbers = form[-1:].isdigit() and piece[0].isdigit()
        form += f" {piece}" if between_numbers else piece
    return form


def spelt_out(name: str) -> str:
    """A class name as words: blanks for underscores, and between a small letter and a capital one.

    >>> spelt_out("ApplyEyeMakeup"), spelt_out("playing_flute"), spelt_out("dog barking")
    ('Apply Eye Makeup', 'playing flute', 'dog barking')
    """
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").split())


def _counts(letter: str) -> bool:
    variation_selector = "\ufe00" <= letter <= "\ufe0f"  # chooses between pictures of one emoji
    return letter == "#" or (unicodedata.category(letter)[0] in "LNMS" and not variation_selector)


def check_distinct(names: Iterable[str], source: str) -> None:
    """Check that class names are of different classes.

    Args:
        names: class names.
        source: file or folder that has them, for the message.

    Raises:
        SacmaError: two names have one canonical form, or a name has nothing that counts.
    """
    first: dict[str, str] = {}
    for name in names:
        form = normal(name)
        if not form:
            raise SacmaError(
                f"{source}: class {printable(name)}; a name needs at least one letter, digit or symbol"
            )
        if first.get(form) == name:
            raise SacmaError(f"{source}: class {printable(name)} is there twice; take one out")
        if form in first:
            raise SacmaError(
                f"{source}: {printable(first[form])} and {printable(name)} are one class in two spellings; "
                "give all its clips the same class name"
            )
        first[form] = name


class Spelling:
    """Finds class names in other spellings, as ``normal`` compares them.

    >>> Spelling(["HandStandPushups", "YoYo"]).find("handstand pushups")
    'HandStandPushups'
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names to find; two with one canonical form are found as they are written only."""
        self._exact = frozenset(names)
        forms: dict[str, list[str]] = defaultdict(list)
        for name in self._exact:
            forms[normal(name)].append(name)
        self._by_form = {form: same[0] for form, same in forms.items() if len(same) == 1}

    def find(self, name: str) -> str | None:
        """Return the name as it was given to this object; None where it is not one of these."""
        return name if name in self._exact else self._by_form.get(normal(name))


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
        raise SacmaError(f"class name {printable(name)} is no text")
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
            f"class names {printable(given[:60])}: a quotation mark is not closed; quote names with commas"
        )
    rows = csv.reader(given.splitlines(), skipinitialspace=True)
    return [name.strip() for row in rows for name in row]


def _read(path: Path) -> str:
    try:
        return read_text(path, limit=_LARGEST_FILE)
    except SacmaError as error:
        raise SacmaError(f"cannot read a list of class names, one a line: {error}") from error
