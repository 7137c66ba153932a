"""Which clips to take: from files, folders, patterns and tables, each with its class."""

from __future__ import annotations

import csv
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sacma.errors import SacmaError

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts"),
        *(
            "vob",
            "webm",
            "wmv",
            "aac",
            "aif",
            "aiff",
            "flac",
            "m4a",
            "mp3",
            "oga",
            "ogg",
            "opus",
            "wav",
            "wma",
        ),
    )
)
"""What is taken for a clip in a folder. A file that is named is taken whatever it is called."""


@dataclass(frozen=True)
class ClipFile:
    """A clip to extract.

    Attributes:
        path: the file.
        class_name: its class.
        start: where its part begins, in seconds; None for the beginning.
        end: where its part ends, in seconds; None for the end.
        group: what it belongs to together with other clips, such as a recording; None where not known.
    """

    path: Path
    class_name: str
    start: float | None = None
    end: float | None = None
    group: str | None = field(default=None, compare=False, kw_only=True)

    @property
    def shown(self) -> str:
        """The path for people; bytes that are no UTF-8 are written as numbers."""
        return printable(str(self.path))

    @property
    def part(self) -> str:
        """What tells parts of one file apart, empty for a whole file."""
        if self.start is None and self.end is None:
            return ""
        return f"@{self.start or 0:g}-{'' if self.end is None else f'{self.end:g}'}"


def printable(text: str) -> str:
    """A text that any screen and file takes; bytes of file names that are no UTF-8 are written as numbers."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def find_clips(
    sources: Sequence[str | Path], *, start: float | None = None, end: float | None = None
) -> list[ClipFile]:
    """All clips of some sources, in the order of the sources and within them of names.

    A file counts as of the class that its folder is named after. A folder stands for the files with the
    suffixes of ``SUFFIXES`` in it and below it, hidden ones and links to folders left out; a pattern for what
    it matches; a CSV file for its rows, with columns ``path`` (from the CSV's folder on) and, each optional,
    ``class``, ``start`` and ``end`` in seconds, and ``group`` for clips that belong together.

    Args:
        sources: names of files, folders and CSV files, and patterns such as ``clips/*/*.mp4``.
        start: where the part of each clip begins for which a table does not say, in seconds.
        end: where it ends.

    Raises:
        SacmaError: a source does not exist or has no clips, a CSV file is not such a table, or a clip comes
            twice.
    """
    found: list[ClipFile] = []
    for source in sources:
        before = len(found)
        found += _of_source(str(source), start, end)
        if len(found) == before:
            raise SacmaError(
                f"{source}: no clips there; expected files such as .mp4, .webm, .mkv, .mov or .wav"
            )
    if not found:
        raise SacmaError("no clips given; name files, folders, patterns or a CSV file")
    for clip in found:
        if clip.class_name != printable(clip.class_name) or not clip.class_name.isprintable():
            raise SacmaError(
                f"{clip.shown}: its class {clip.class_name!r} is no plain text; name it in a CSV file"
            )
    (clip, count), *_ = Counter(found).most_common(1)
    if count > 1:
        raise SacmaError(f"{clip.shown}{clip.part}: comes {count} times among the clips; name each once")
    return found


def names(clips: Sequence[ClipFile]) -> list[str]:
    """A name for each clip that no other has: its path below the folder that all share, and its part."""
    paths = [os.path.abspath(clip.path) for clip in clips]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [
        Path(os.path.relpath(path, shared)).as_posix() + clip.part
        for path, clip in zip(paths, clips, strict=True)
    ]


def _of_source(source: str, start: float | None, end: float | None) -> Iterator[ClipFile]:
    path = Path(source)
    if path.is_dir():
        yield from (_listed(file, start, end) for file in _below(path))
    elif os.path.lexists(path):
        yield from _rows(path, start, end) if path.suffix.lower() == ".csv" else (_listed(path, start, end),)
    elif glob.has_magic(source):
        for match in sorted(glob.glob(source, recursive=True)):
            if not Path(match).is_dir():
                yield _listed(Path(match), start, end)
    else:
        raise SacmaError(f"{source}: no such file or folder")


def _listed(path: Path, start: float | None, end: float | None) -> ClipFile:
    return ClipFile(path, path.absolute().parent.name.strip(), start, end)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent) / name


def _rows(table: Path, start: float | None, end: float | None) -> Iterator[ClipFile]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SacmaError(f"{table}: not a CSV file in UTF-8 ({error})") from error
    for number, row in enumerate(rows, start=2):
        if not row.get("path") or None in row:
            raise SacmaError(
                f"{table}, line {number}: expected columns path, class, start, end, group; a path in each row"
            )
        path = table.parent / row["path"]
        name = (row.get("class") or "").strip() or path.absolute().parent.name
        times = [_time(table, number, row.get(key), other) for key, other in (("start", start), ("end", end))]
        yield ClipFile(path, name, *times, group=(row.get("group") or "").strip() or None)


def _time(table: Path, number: int, text: str | None, otherwise: float | None) -> float | None:
    if text is None or not text.strip():
        return otherwise
    try:
        return float(text)
    except ValueError:
        raise SacmaError(
            f"{table}, line {number}: {text!r} is no time; write seconds, such as 12.5"
        ) from None
