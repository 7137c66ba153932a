"""Tables of class vectors, and the two ways of pairing their rows with classes.

The published tables of the three benchmarks hold vectors of fastText's ``wiki.en.bin`` for the whole name
(the papers call them word2vec), 300 numbers, scaled to unit length. They are keyed not by class but by text
name ("CuttingInKitchen" is looked up as "Cut Kitchen"). How the published code pairs them with classes, and
what is wrong with that, stands at ``class_vectors``. Other tables are made by encoders and keep what made
them, so that names that they lack can be encoded in the same way later.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, printable
from sacma.files import reading, replacing
from sacma.text.vector_files import read_word_vectors

ALIGNMENTS = ("aligned", "published", "rotated")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class TextTable:
    """Text names and their vectors.

    Attributes:
        names: K different text names.
        vectors: (K, E) float32, finite, one a row; E is whatever the table has.
        source: where the table comes from, for messages.
        provenance: what ``open_encoder`` needs to encode other names in the same way; None where
            the file does not say.
    """

    names: tuple[str, ...]
    vectors: Vectors
    source: str = "the text table"
    provenance: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        shape = self.vectors.shape
        if len(shape) != 2 or shape[0] != len(self.names) or shape[1] == 0:
            raise SacmaError(
                f"{self.source}: {len(self.names)} names but vectors of shape {shape}, expected (K, E)"
            )
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise SacmaError(f"{self.source}: {printable(twice)} is there twice; give each name one vector")
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise SacmaError(
                f"{self.source}: the vector of {printable(self.names[bad[0]])} is not finite; make "
                "the table again"
            )

    @classmethod
    def from_mapping(
        cls,
        vectors: Mapping[str, NDArray[np.floating]],
        *,
        source: str = "the text table",
        provenance: Mapping[str, Any] | None = None,
    ) -> TextTable:
        """Make a table from a dictionary text name -> (E,).

        Raises:
            SacmaError: there are none, or they differ in width.
        """
        rows = [np.asarray(vector, dtype=np.float32) for vector in vectors.values()]
        shapes = {row.shape for row in rows}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise SacmaError(f"{source}: expected vectors of one width, found shapes {sorted(shapes)}")
        return cls(tuple(vectors), np.stack(rows), source, provenance)

    @classmethod
    def read(cls, path: Path) -> TextTable:
        """Read a ``.npz`` or an official ``.npy`` (a pickled dictionary).

        A ``.npz`` of ours has the arrays ``names``, ``vectors`` and, perhaps, ``provenance`` (JSON); one of
        other makers has an array of shape (E,) a name. Nothing can run code: a ``.npz`` may hold no objects,
        a ``.npy`` is not unpickled as Python would.

        Raises:
            SacmaError: no such file, damaged, or not such a table.
        """
        vectors = read_word_vectors(path)
        return cls.from_mapping(vectors, source=str(path), provenance=_read_provenance(path))

    def write(self, path: Path) -> None:
        """Write our ``.npz``, whole or not at all; the same table gives the same bytes."""
        arrays: dict[str, Any] = {"names": np.array(self.names, dtype=np.str_)}
        arrays["vectors"] = self.vectors
        if self.provenance is not None:
            arrays["provenance"] = np.array(json.dumps(dict(self.provenance)))
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)


def _read_provenance(path: Path) -> dict[str, Any] | None:
    if path.suffix != ".npz":
        return None
    with reading(path), np.load(path, allow_pickle=False) as arrays:
        if not {"names", "vectors", "provenance"} <= set(arrays.files):
            return None
        content = json.loads(str(arrays["provenance"]))
    if not isinstance(content, dict):
        raise SacmaError(f"{path}: its provenance is no JSON object; make the table again")
    return content


def nearest_words(word: str, known: Iterable[str]) -> list[str]:
    """Return up to three known words with a similar spelling, the nearest first."""
    folded = {one.casefold(): one for one in known if abs(len(one) - len(word)) <= max(3, len(word) // 3)}
    return [folded[near] for near in difflib.get_close_matches(word.casefold(), folded, n=3)]


def class_vectors(
    classes: Sequence[str], text_names: Mapping[str, str], table: TextTable, *, alignment: str = "aligned"
) -> Vectors:
    """Pair classes with their vectors, (K, E) float32.

    ``aligned`` gives each class its own vector, that of its text name. ``published`` pairs them as the code
    behind the published numbers does: it sorts the table by text name and takes row c for the class that is
    c-th among all sorted class names. The two orders differ (spaces come before letters, and some text names
    are other words), so classes get a neighbour's vector: 79 of 101 in UCF ("PlayingFlute" gets "Playing
    Guitar"), 205 of 309 in VGGSound, 8 of 200 in ActivityNet. It is there to compare with published tables.

    Args:
        classes: K names in ascending order; for ``published`` and ``rotated`` all classes of the source data
            set, also the ones that no split uses, since positions among them decide.
        text_names: class -> text name; a class that is not in it is looked up under its own name.
        table: the vectors by text name.
        alignment: ``aligned``, ``published`` or ``rotated``.

    Raises:
        SacmaError: a class has no vector, or the alignment is unknown.
    """
    if alignment not in ALIGNMENTS:
        raise SacmaError(
            f"text alignment {printable(alignment)} is unknown; expected one of {', '.join(ALIGNMENTS)}"
        )
    if list(classes) != sorted(classes):
        raise ValueError("class names must be in ascending order")
    if alignment == "published":
        return _published_rows(len(classes), table)
    own = _own_rows(classes, text_names, table)
    return np.roll(own, -1, axis=0) if alignment == "rotated" else own


def _own_rows(classes: Sequence[str], text_names: Mapping[str, str], table: TextTable) -> Vectors:
    rows = {name: row for row, name in enumerate(table.names)}
    wanted = [text_names.get(name, name) for name in classes]
    for name, text_name in zip(classes, wanted, strict=True):
        if text_name not in rows:
            near = nearest_words(text_name, rows)
            raise SacmaError(
                f"{table.source}: no vector for class {printable(name)} (text name {printable(text_name)})"
                + (f", nearest here {', '.join(map(printable, near))}" if near else "")
                + "; add it (sacma text build makes a table), or correct the text name in the class names"
            )
    return table.vectors[[rows[text_name] for text_name in wanted]]


def _published_rows(count: int, table: TextTable) -> Vectors:
    if len(table.names) < count:
        raise SacmaError(
            f"{table.source}: {len(table.names)} vectors for {count} classes; "
            "the published alignment needs one for each"
        )
    order = sorted(range(len(table.names)), key=table.names.__getitem__)
    return table.vectors[order[:count]]
