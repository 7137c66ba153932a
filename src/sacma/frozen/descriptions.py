"""Texts that are encoded for a class name: the name and its descriptions.

A list of names may bring descriptions, ``erhu: Chinese fiddle; bowed string instrument``. For a name without,
``data/glossary.txt`` is asked: rare instruments, animals, sports and other actions whose names alone tell a
sentence encoder little. The longest term of the glossary that the name contains is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from sacma.errors import SacmaError, printable
from sacma.text.names import listed, read_names

_LONGEST = 400
_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
_BETWEEN = re.compile(r"[^\w+#]+|_+")


@dataclass(frozen=True)
class ClassName:
    """A name with its descriptions, which may be none."""

    name: str
    descriptions: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The name in separate words, and its descriptions: its own or those of the glossary."""
        name = self.name if " " in self.name else _spaced(self.name)
        return (name, *(self.descriptions or explained(self.name)))


def read_class_names(given: str | Iterable[str], *, files: bool = True) -> tuple[ClassName, ...]:
    """Class names, each perhaps with descriptions after a colon, separated by semicolons.

    Args:
        given: as ``sacma.text.names.read_names`` takes them.
        files: whether ``@FILE`` names a file.

    Raises:
        SacmaError: see ``read_names``; or a description is empty or too long.
    """
    lines = listed(given, files=files) if isinstance(given, str) else list(given)
    if any(not isinstance(line, str) for line in lines):
        read_names(lines)  # says which is no text
    names, descriptions = [], []
    for line in lines:
        name, colon, rest = line.partition(": ")
        names.append(name.strip())
        some = tuple(one.strip() for one in rest.split(";")) if colon else ()
        if not all(some):
            raise SacmaError(
                f"class name {printable(name.strip())}: an empty description; write name: description"
            )
        if long := [one for one in some if len(one) > _LONGEST]:
            raise SacmaError(
                f"class name {printable(name.strip())}: the description {printable(long[0][:40])}... "
                "is longer than "
                f"{_LONGEST} characters; shorten it"
            )
        descriptions.append(some)
    read = read_names(names)
    return tuple(ClassName(*one) for one in zip(read, descriptions, strict=True))


def explained(name: str) -> tuple[str, ...]:
    """The descriptions that the glossary has for the longest of its terms in a name."""
    terms = _glossary()
    words = _spaced(name).split()
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            term = " ".join(words[start : start + length])
            found = terms.get(term) or terms.get(term.removesuffix("s"))
            if found:
                return found
    return ()


def _spaced(name: str) -> str:
    """The words of a name in lower case: "playing flute" of PlayingFlute and of playing_flute."""
    return _BETWEEN.sub(" ", _CAMEL.sub(" ", name)).strip().casefold() or name


def everyday_terms() -> tuple[str, ...]:
    """The terms of the glossary."""
    return tuple(_glossary())


@lru_cache(maxsize=1)
def _glossary() -> dict[str, tuple[str, ...]]:
    text = (resources.files("sacma.frozen") / "data" / "glossary.txt").read_text(encoding="utf-8")
    pairs = (line.split(": ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {_spaced(term): tuple(told.split("; ")) for term, told in pairs}
