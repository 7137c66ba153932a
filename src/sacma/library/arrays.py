"""What search reads: the windows of all clips as plain arrays that are mapped into memory.

They stand in a folder named after the generation of the library that they were made from. Where they are
missing or of another generation, as after a kill, they are made in memory from the library's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.files import remove, replacing
from sacma.library.store import Array, Store

WINDOWS = "windows"
MOMENT, WHOLE, BOTH = 0, 1, 2
_PREFIX = "arrays-"


@dataclass(frozen=True)
class Arrays:
    """Windows of all clips, W in all, those of a clip one after another.

    Attributes:
        clips: (W,) number of the clip of each window.
        windows: (W, 3) start and end in seconds from the beginning of the features, and the role: ``MOMENT``,
            ``WHOLE`` for those that stand for the clip as a whole, or ``BOTH``.
        spaces: name of a space -> (W, D); rows of NaN where a window has nothing in it.
    """

    clips: NDArray[np.int64]
    windows: Array
    spaces: Mapping[str, Array]

    def rows(self, *, whole: bool) -> NDArray[np.int64]:
        """Rows of the windows that stand for their clips as a whole, or else of the moments."""
        return np.flatnonzero(self.windows[:, 2] != (MOMENT if whole else WHOLE))


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
            return Arrays(clips, windows, dict(zip(wanted, kept, strict=True)))
    counts, widths = _sizes(store)
    made = {name: np.empty((counts, widths[name]), np.float32) for name in wanted if name in widths}
    clips, windows = np.empty(counts, np.int64), np.empty((counts, 3), np.float32)
    _fill(store, clips, windows, made)
    return Arrays(clips, windows, made)


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
    for old in store.folder.glob(f"{_PREFIX}*"):
        if old != target:
            remove(old)


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
