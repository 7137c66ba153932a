"""Unpacks a zip archive into a new folder; no entry can leave the folder."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from sacma import files
from sacma.data.fetching import CHUNK, ByteReporter, OnBytes, check_space
from sacma.errors import SacmaError, printable


def extract_zip(archive: Path, out: Path, *, on_progress: OnBytes | None = None) -> Path:
    """Unpack an archive into a new folder, all of it or nothing.

    Args:
        archive: the zip file.
        out: the folder to make; it must not exist, or be empty.
        on_progress: called about ten times a second with the bytes unpacked.

    Returns:
        ``out``.

    Raises:
        SacmaError: not a zip file, damaged or encrypted; an entry that is a link, or would lie outside
            ``out``, or is there twice; more content than the disk has room for; ``out`` is not empty.
    """
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if out.exists() or out.is_symlink():
        raise SacmaError(f"{out} exists already; remove it or choose another place")
    try:
        with zipfile.ZipFile(archive) as opened, files.replacing(out) as partial:
            entries = opened.infolist()
            _check_entries(archive, entries)
            total = sum(entry.file_size for entry in entries)
            check_space(out, total, f"the content of {archive.name}")
            partial.mkdir(parents=True)
            _unpack(opened, entries, partial, ByteReporter(str(archive), total, on_progress))
    except OSError as error:
        raise SacmaError(
            f"{archive}: cannot be read ({error.strerror or error}); download it first"
        ) from error
    except _DAMAGED as error:
        raise SacmaError(
            f"{archive}: not a zip file that can be read ({error}){_web_page(archive)}; download it again"
        ) from error
    return out


_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
)
"""What ``zipfile`` raises for damaged archives and for kinds that it cannot unpack."""


def _check_entries(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    if not all(entry.filename for entry in entries):
        raise SacmaError(f"{archive}: an entry has no name; get the archive elsewhere")
    names = Counter(entry.filename for entry in entries if not entry.is_dir())
    for entry in entries:
        reason = _unsafe(entry.filename)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            reason = "it is a link or a device"
        elif entry.flag_bits & 0x1:
            reason = "it is encrypted"
        elif names[entry.filename] > 1:
            reason = "it is there twice"
        if reason:
            raise SacmaError(
                f"{archive}: entry {printable(entry.filename)} is refused: {reason}; get the archive "
                "elsewhere"
            )


def _unsafe(name: str) -> str | None:
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or (path.parts and ":" in path.parts[0]):
        return "its path is not relative"
    if not path.parts or ".." in path.parts:
        return "it lies outside the archive"
    return None


def _unpack(
    opened: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], out: Path, report: ByteReporter
) -> None:
    done = 0
    for entry in entries:
        target = out / entry.filename
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(entry) as source, target.open("xb") as sink:
            while chunk := source.read(CHUNK):  # never more than the entry's declared size
                sink.write(chunk)
                done += len(chunk)
                report(done)
    report(done, last=True)


def _web_page(archive: Path) -> str:
    with suppress(OSError), archive.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return ", it is a web page"
    return ""
