"""Tables of class vectors in a folder of features, and ClipClap's two published tables joined to one.

Those folders (github.com/dkurzend/ClipClap-GZSL) have beside ``word_embeddings_NAME_normed.npy``, of CLIP's
text encoder, the table ``wavcaps_word_embeddings_NAME_normed.npy``, of that of WavCaps' CLAP. A class vector
is both of its rows, CLIP's first. For UCF the text names stand in the third column of
``ucf_clip_class_names.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sacma.data.class_lists import read_name_mapping
from sacma.errors import SacmaError, printable, some_of
from sacma.text.vectors import TextTable

SECOND = "wavcaps_"
NAMES_COLUMN = "clip_class_name"


def read_table(folder: Path, names: Sequence[str]) -> tuple[str, TextTable]:
    """Read the first of some tables that a folder of features has.

    Args:
        folder: with ``text/`` in it.
        names: the NAME in ``text/word_embeddings_NAME_normed.npz`` or ``.npy``, in order of preference, or
            the path of such a file, which is then read alone.

    Returns:
        Its name, and the table; joined with the second one of its name where there is one.

    Raises:
        SacmaError: there is none of these tables, or one cannot be read or joined.
    """
    for name in names:
        if name.endswith((".npz", ".npy")):
            return name, TextTable.read(Path(name))
        if first := _table_file(folder, name):
            second = _table_file(folder, name, prefix=SECOND)
            table = TextTable.read(first)
            return name, table if second is None else joined(table, TextTable.read(second))
    stem = folder / "text" / f"word_embeddings_{names[0]}_normed"
    found = sorted(path.name for path in (folder / "text").glob("word_embeddings_*"))
    raise SacmaError(
        f"{stem}.npz or .npy: no such table of class vectors; found {some_of(found) or 'none'} there"
    )


def _table_file(folder: Path, name: str, *, prefix: str = "") -> Path | None:
    stem = folder / "text" / f"{prefix}word_embeddings_{name}_normed"
    files = [stem.with_name(stem.name + suffix) for suffix in (".npz", ".npy")]
    return next((path for path in files if path.is_file()), None)


def has_two_tables(folder: Path) -> bool:
    """Return True for a folder of features with tables of two text encoders, as ClipClap's."""
    return any((folder / "text").glob(f"{SECOND}word_embeddings_*"))


def joined(first: TextTable, second: TextTable) -> TextTable:
    """Join two tables of the same names: each row of the first is followed by that of the second.

    Raises:
        SacmaError: a name is in one of them only.
    """
    rows = {name: row for row, name in enumerate(second.names)}
    if differing := sorted(set(first.names) ^ set(rows)):
        raise SacmaError(
            f"{first.source} and {second.source}: only one of them has {printable(differing[0])}; "
            "get both again"
        )
    vectors = np.concatenate([first.vectors, second.vectors[[rows[name] for name in first.names]]], axis=1)
    return TextTable(first.names, vectors, f"{first.source} and {Path(second.source).name}")


def names_for(table: TextTable, lists: Path, benchmark: str, names: Mapping[str, str]) -> Mapping[str, str]:
    """Class -> text name in a table: ``names``, or those of ClipClap's list where the table is keyed by them.

    Args:
        table: of class vectors.
        lists: the folder ``class-split/``.
        benchmark: its name.
        names: class -> text name, as other tables have them.

    Raises:
        SacmaError: the list is damaged.
    """
    path = lists / f"{benchmark}_clip_class_names.csv"
    if set(names.values()) <= set(table.names) or not path.is_file():
        return names
    spelt = {name.casefold(): name for name in names}  # the list may spell a class otherwise
    listed = read_name_mapping(path, column=NAMES_COLUMN)
    return {**names, **{spelt.get(name.casefold(), name): text for name, text in listed.items()}}
