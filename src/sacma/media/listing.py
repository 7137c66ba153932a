"""Find clips in files, folders, patterns and tables, each with its class."""

from __future__ import annotations

import csv
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from sacma.errors import SacmaError, printable
from sacma.files import MOST_TABLE, read_text
from sacma.media.containers import SUFFIXES, Film

Skipped = tuple[Path, str]
"""What is left out of a folder, and why."""


@dataclass(frozen=True)
class ClipFile:
    """A clip to extract.

    Attributes:
        path: the file.
        class_name: its class.
        start: where its part begins, in seconds; None for the beginning.
        end: where its part ends, in seconds; None for the end.
        group: what it belongs to together with other clips, such as a recording; None where not known.
        sound: the file with its sound, where that is another one.
    """

    path: Path
    class_name: str
    start: float | None = None
    end: float | None = None
    group: str | None = field(default=None, compare=False, kw_only=True)
    sound: Path | None = field(default=None, compare=False, kw_only=True)

    @property
    def source(self) -> Path | Film:
        """Source that is opened."""
        return self.path if self.sound is None else Film(self.path, self.sound)

    @property
    def shown(self) -> str:
        """Path to show to people: bytes that are not UTF-8 become numbers."""
        return plain_text(str(self.path))

    @property
    def part(self) -> str:
        """Suffix that tells parts of one file apart; empty for a whole file."""
        if self.start is None and self.end is None:
            return ""
        return f"@{self.start or 0:g}-{'' if self.end is None else f'{self.end:g}'}"


def plain_text(text: str) -> str:
    """Text that any screen and file accepts: bytes of file names that are not UTF-8 become numbers."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def find_clips(
    sources: Sequence[str | Path],
    *,
    start: float | None = None,
    end: float | None = None,
    follow_links: bool = False,
    left_out: list[Skipped] | None = None,
) -> list[ClipFile]:
    """Find all clips of some sources, in the order of the sources, then of names.

    A file counts as of the class that its folder is named after. A folder stands for the files with the
    suffixes of ``containers.SUFFIXES`` in it and below it, hidden ones left out; a pattern for what it
    matches, where brackets in the name of a folder that is there stand for themselves; a CSV file for its
    rows, with columns ``path`` (from the CSV's folder on) and, each optional, ``class``, ``start`` and
    ``end`` in seconds, and ``group`` for clips that belong together.

    Args:
        sources: names of files, folders and CSV files, and patterns such as ``clips/*/*.mp4``.
        start: where the part of each clip begins for which a table does not say, in seconds.
        end: where it ends.
        follow_links: take what lies in folders that are symbolic links.
        left_out: gets what is left out of folders.

    Raises:
        SacmaError: a source does not exist or has no clips, a CSV file is not such a table, or a clip comes
            twice.
    """
    found: list[ClipFile] = []
    for source in sources:
        before = len(found)
        skipped: list[Skipped] = []
        found += _of_source(str(source), start, end, follow_links, skipped)
        if len(found) == before:
            raise SacmaError(f"{source}: no clips there; {_hint(str(source), skipped)}")
        if left_out is not None:
            left_out += skipped
    if not found:
        raise SacmaError("no clips given; name files, folders, patterns or a CSV file")
    for clip in found:
        if clip.class_name != plain_text(clip.class_name) or not clip.class_name.isprintable():
            raise SacmaError(
                f"{clip.shown}: its class {printable(clip.class_name)} is no plain text; name it in "
                "a CSV file"
            )
    (clip, count), *_ = Counter(found).most_common(1)
    if count > 1:
        raise SacmaError(f"{clip.shown}{clip.part}: comes {count} times among the clips; name each once")
    return found


def names(clips: Sequence[ClipFile]) -> list[str]:
    """Unique name of each clip: its path below the folder that all share, and its part."""
    paths = [os.path.abspath(clip.path) for clip in clips]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [
        Path(os.path.relpath(path, shared)).as_posix() + clip.part
        for path, clip in zip(paths, clips, strict=True)
    ]


def skipped_lines(skipped: Sequence[Skipped], most: int = 3) -> list[str]:
    """A line for each reason why something was left out, with the first few names."""
    by_reason: dict[str, list[Path]] = {}
    for path, why in skipped:
        by_reason.setdefault(why, []).append(path)
    lines = []
    for why, paths in by_reason.items():
        more = f" and {len(paths) - most} more" if len(paths) > most else ""
        lines.append(f"{', '.join(plain_text(str(path)) for path in paths[:most])}{more}: {why}")
    return lines


def _hint(source: str, skipped: Sequence[Skipped]) -> str:
    if skipped:
        return f"left out: {'; '.join(skipped_lines(skipped))}"
    if "[" in source:
        return "in a pattern, [ and ] stand for one of the characters between them; write [[] for a bracket"
    return "expected files such as .mp4, .webm, .mkv, .mov or .wav"


def _of_source(
    source: str, start: float | None, end: float | None, follow_links: bool, skipped: list[Skipped]
) -> Iterator[ClipFile]:
    path = Path(source)
    if path.is_dir():
        yield from (_listed(file, start, end) for file in _below(path, follow_links, skipped))
    elif os.path.lexists(path):
        yield from _rows(path, start, end) if path.suffix.lower() == ".csv" else (_listed(path, start, end),)
    elif glob.has_magic(source):
        for match in sorted(glob.glob(_literal_folders(source), recursive=True)):
            if not Path(match).is_dir():
                yield _listed(Path(match), start, end)
    else:
        raise SacmaError(f"{source}: no such file or folder")


def _literal_folders(pattern: str) -> str:
    """Escape the leading folders of a pattern that exist as they are written."""
    parts = Path(pattern).parts
    for count in range(len(parts) - 1, 0, -1):
        folder = Path(*parts[:count])
        if folder.is_dir():
            return os.path.join(glob.escape(str(folder)), *parts[count:])
    return pattern


def _listed(path: Path, start: float | None, end: float | None) -> ClipFile:
    return ClipFile(path, path.absolute().parent.name.strip(), start, end)


def _below(
    folder: Path, follow_links: bool, skipped: list[Skipped], above: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Clips in a folder and below it. ``above`` are the real folders on the way: links may form a loop."""
    real = os.path.realpath(folder)
    if real in above:
        skipped.append((folder, "a link to a folder that it lies in"))
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        skipped.append((folder, f"cannot be read ({error.strerror})"))
        return
    folders = []
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            folders.append((entry, path))
        elif path.suffix.lower() not in SUFFIXES:
            skipped.append(
                (path, "not known as clips by their suffix; a file that is named is taken whatever it is")
            )
        elif entry.name.startswith("."):
            skipped.append((path, "hidden"))
        else:
            yield path
    for entry, path in folders:
        if entry.name.startswith("."):
            skipped.append((path, "hidden"))
        elif entry.is_symlink() and not follow_links:
            skipped.append((path, "links to folders; --follow-links takes what is in them"))
        else:
            yield from _below(path, follow_links, skipped, above | {real})


def _rows(table: Path, start: float | None, end: float | None) -> Iterator[ClipFile]:
    try:
        rows = list(csv.DictReader(StringIO(read_text(table, limit=MOST_TABLE), newline=""), strict=True))
    except csv.Error as error:
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
            f"{table}, line {number}: {printable(text)} is no time; write seconds, such as 12.5"
        ) from None
