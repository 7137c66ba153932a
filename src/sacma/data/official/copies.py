"""Copies what lies beside the features of an official folder: class vectors and class lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from sacma.data.official.plan import class_split_files, text_files
from sacma.errors import SacmaError
from sacma.files import remove, replacing
from sacma.text.vector_files import read_word_vectors


def convert_text(features: Path, working: Path) -> None:
    """Write all tables of class vectors as ``.npz``, which holds no objects.

    Args:
        features: a folder of official features; its tables lie in ``text/``.
        working: the folder to write ``text/`` to.
    """
    remove(working / "text")
    with replacing(working / "text") as folder:
        folder.mkdir(parents=True)
        for path in text_files(features):
            vectors = read_word_vectors(path)
            with (folder / f"{path.stem}.npz").open("wb") as file:
                names = np.array(list(vectors), dtype=np.str_)
                np.savez(file, names=names, vectors=np.stack(list(vectors.values())))


def copy_class_split(root: Path, out: Path) -> None:
    """Copy the class lists of a folder.

    Raises:
        SacmaError: ``out`` has other class lists already.
    """
    theirs, ours = root / "class-split", out / "class-split"
    if not theirs.is_dir():
        return
    if ours.exists():
        _check_same_lists(theirs, ours)
        return
    with replacing(ours) as folder:
        for path in class_split_files(root):
            copy = folder / path.relative_to(theirs)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _check_same_lists(theirs: Path, ours: Path) -> None:
    for path in class_split_files(theirs.parent):
        copy = ours / path.relative_to(theirs)
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            raise SacmaError(f"{copy} is not as {path}; choose another place for these features")
