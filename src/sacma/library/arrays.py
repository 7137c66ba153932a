"""Arrays that search reads: the windows of all clips, mapped into memory.

They stand in a folder named after the generation of the library that they were made from. Where they are
missing or of another generation, as after a kill, they are made in memory from the library's file.

A library of ``LARGE`` windows or more has rough rows beside the exact ones: R = X P, with P (D, ``ROUGH``)
the leading eigenvectors of the second moments of X, so that X v is about R (P' v) and far less is read.
Search takes the best windows by the rough scores and scores these exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.files import remove, replacing
from sacma.library.store import Array, Store

WINDOWS = "windows"
MOMENT, WHOLE, BOTH = 0, 1, 2
LARGE, ROUGH = 200_000, 64
_PREFIX = "arrays-"
_AT_ONCE, _SAMPLE = 65_536, 20_000


@dataclass(frozen=True)
class Arrays:
    """Windows of all clips, W in all, those of a clip one after another.

    Attributes:
        clips: (W,) number of the clip of each window.
        windows: (W, 3) start and end in seconds from the beginning of the features, and the role: ``MOMENT``,
            ``WHOLE`` for those that stand for the clip as a whole, or ``BOTH``.
        spaces: name of a space -> (W, D); rows of NaN where a window has nothing in it.
        rough: name of a space -> rough rows (W, d) and the basis (D, d), of large libraries.
    """

    clips: NDArray[np.int64]
    windows: Array
    spaces: Mapping[str, Array]
    rough: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """(W,) the windows that stand for their clips as a whole."""
        return np.asarray(self.windows[:, 2] != MOMENT)

    @cached_property
    def moments(self) -> NDArray[np.bool_]:
        """(W,) the windows that search can find."""
        return np.asarray(self.windows[:, 2] != WHOLE)

    def product(self, space: str, vector: NDArray[np.floating], rows: NDArray[np.int64] | None) -> Array:
        """Products of rows of a space with a vector (D,); of all rows rough ones, where there are such."""
        v = vector.astype(np.float32)
        if rows is not None:
            return np.asarray(self.spaces[space][rows] @ v)
        if space in self.rough:
            some, basis = self.rough[space]
            return np.asarray(some @ (v @ basis))
        return np.asarray(self.spaces[space] @ v)


def open_arrays(store: Store, spaces: Iterable[str]) -> Arrays:
    """The arrays of the library as it is now.

    Args:
        store: the library.
        spaces: those that are needed.

    Raises:
        SacmaError: the library is damaged.
    """
    wanted = tuple(spaces)
    folder = _folder(store)
    with suppress(OSError, ValueError):
        names = ("clips", WINDOWS, *wanted)
        clips, windows, *kept = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
        if all(len(one) == len(clips) for one in (windows, *kept)):
            spaces = dict(zip(wanted, kept, strict=True))
            return Arrays(np.asarray(clips), np.asarray(windows), spaces, _open_rough(folder, wanted))
    counts, widths = _sizes(store)
    made = {name: np.empty((counts, widths[name]), np.float32) for name in wanted if name in widths}
    clips, windows = np.empty(counts, np.int64), np.empty((counts, 3), np.float32)
    _fill(store, clips, windows, made)
    return Arrays(clips, windows, made)


def spaces_of(store: Store) -> frozenset[str]:
    """The spaces that windows of the library have rows in."""
    folder = _folder(store)
    if folder.is_dir():
        names = (path.name.removesuffix(".npy") for path in folder.glob("*_*.npy"))
        return frozenset(name for name in names if "." not in name)
    return frozenset(_sizes(store)[1])


def write_arrays(store: Store) -> None:
    """Write the arrays of the library as it is now, and remove older ones.

    Raises:
        SacmaError: the disk is full; the library itself is as it was.
    """
    target = _folder(store)
    if not target.is_dir():
        counts, widths = _sizes(store)
        if counts:
            with replacing(target) as partial:
                partial.mkdir()
                clips = _file(partial, "clips", (counts,), np.int64)
                windows = _file(partial, WINDOWS, (counts, 3), np.float32)
                made = {
                    name: _file(partial, name, (counts, width), np.float32) for name, width in widths.items()
                }
                _fill(store, clips, windows, made)
                for array in (clips, windows, *made.values()):
                    array.flush()
                if counts >= LARGE:
                    for name, rows in made.items():
                        _write_rough(partial, name, rows)
    for old in store.folder.glob(f"{_PREFIX}*"):
        if old != target:
            remove(old)


def _open_rough(folder: Path, spaces: Iterable[str]) -> dict[str, tuple[Array, Array]]:
    rough = {}
    for name in spaces:
        with suppress(OSError, ValueError):
            rows = np.load(folder / f"{name}.rough.npy", mmap_mode="r")
            rough[name] = rows, np.load(folder / f"{name}.basis.npy")
    return rough


def _write_rough(folder: Path, name: str, rows: Array) -> None:
    if rows.shape[1] <= ROUGH:
        return
    basis = leading_basis(rows)
    np.save(folder / f"{name}.basis.npy", basis)
    rough = _file(folder, f"{name}.rough", (len(rows), ROUGH), np.float32)
    for first in range(0, len(rows), _AT_ONCE):
        rough[first : first + _AT_ONCE] = rows[first : first + _AT_ONCE] @ basis
    rough.flush()


def leading_basis(rows: Array) -> Array:
    """(D, ROUGH) leading eigenvectors of the second moments of rows (W, D), from a sample of them."""
    sample = np.asarray(rows[:: max(1, len(rows) // _SAMPLE)], np.float64)
    sample = sample[np.isfinite(sample).all(axis=1)]
    _, vectors = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(vectors[:, -ROUGH:], dtype=np.float32)


def _folder(store: Store) -> Path:
    return store.folder / f"{_PREFIX}{store.generation}"


def _file(folder: Path, name: str, shape: tuple[int, ...], kind: type) -> np.memmap:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)


def _sizes(store: Store) -> tuple[int, dict[str, int]]:
    """Number of windows, and the width of each space."""
    shapes = store.shapes()
    spaces = {name: width for name, (_, width) in shapes.items() if name.startswith(("of_", "like_"))}
    return shapes.get(WINDOWS, (0, 3))[0], spaces


def _fill(store: Store, clips: NDArray[np.int64], windows: Array, spaces: Mapping[str, Array]) -> None:
    row = 0
    for clip, arrays in store.arrays((WINDOWS, *spaces)):
        last = row + len(arrays[WINDOWS])
        clips[row:last], windows[row:last] = clip, arrays[WINDOWS]
        for name, array in spaces.items():
            array[row:last] = arrays.get(name, np.nan)
        row = last
    if row != len(clips):
        raise SacmaError(f"{store.folder}: changed while it was read; try again")
