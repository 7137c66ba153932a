"""Files of class vectors: the published ``.npy``, a pickled dictionary, and ``.npz`` of any maker.

Nothing in a file can run code: a ``.npz`` may hold no objects, and a ``.npy`` is read by ``sacma.pickles``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma import pickles
from sacma.errors import SacmaError, printable
from sacma.files import reading
from sacma.text.names import decoded


def read_word_vectors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read text name -> (E,) vector, in the order of the file, from a published ``.npy`` or a ``.npz``.

    Raises:
        SacmaError: no such file, damaged, of another kind, or asking for code to be run.
    """
    with reading(path):
        table = _vectors_of_npz(path) if path.suffix == ".npz" else _vectors_of_npy(path)
        vectors = {decoded(name): np.array(row, dtype=np.float32) for name, row in table.items()}
        shapes = {vector.shape for vector in vectors.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise SacmaError(f"{path}: expected vectors of one width, found shapes {sorted(shapes)}")
        for name, vector in vectors.items():
            if not np.isfinite(vector).all():
                raise SacmaError(
                    f"{path}: the vector of {printable(name)} has NaN or infinite values; get it again"
                )
        return vectors


def _vectors_of_npy(path: Path) -> Mapping[Any, Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(file)
        start = file.tell()
    content = pickles.load(path, start=start) if dtype.kind == "O" and shape == () else None
    item = content.item() if isinstance(content, np.ndarray) and content.shape == () else None
    if not isinstance(item, dict):
        raise SacmaError(f"{path}: {dtype} of shape {shape}, expected a saved dictionary of name -> vector")
    return item


def _vectors_of_npz(path: Path) -> Mapping[Any, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        if "vectors" not in arrays.files:  # an array a name, as np.savez(path, **vectors) writes it
            return dict(arrays)
        names, vectors = arrays["names"], arrays["vectors"]
    return dict(zip(names.tolist(), vectors, strict=True))
