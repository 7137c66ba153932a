"""The pieces in which an official folder is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sacma.data.official.feature_files import ClipTable
from sacma.files import reading


@dataclass(frozen=True)
class Source:
    """One piece of an import: clips of a partition, from one file or from one for each modality.

    Attributes:
        key: names, sizes and times of the files; equal keys mean equal clips.
        load: yields the clips, one class at a time: label, audio, video.
    """

    key: str
    partition: int
    load: Callable[[], Iterable[tuple[int, ClipTable, ClipTable]]]


@dataclass(frozen=True)
class Sources:
    """All clips of an official folder.

    Attributes:
        classes: names of all classes, sorted.
        pieces: in the order in which they are written.
        files: the files that are read.
    """

    classes: tuple[str, ...]
    pieces: tuple[Source, ...]
    files: tuple[Path, ...]


def stamp(path: Path) -> tuple[int, int]:
    """Return size and time of change (ns) of a file.

    Raises:
        SacmaError: the file cannot be read.
    """
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns
