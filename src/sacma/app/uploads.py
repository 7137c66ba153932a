"""Clips that visitors have uploaded: each in a folder with a secret name, owned by who asks about it first.

The name of the folder is told to the one who uploaded the clip and to nobody else, and equal clips of two
visitors are two files. All of them lie in one temporary folder for each page. A page that ends removes its
folder; that of a page that was killed is removed by the next page that starts.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from sacma.errors import SacmaError
from sacma.files import remove

MOST, MOST_BYTES = 5000, 4 << 30
"""Clips that lie here at a time, and their bytes; more are refused."""
LONGEST_NAME = 100
"""Characters of a file name."""
_PREFIX, _LOCK = "sacma-page-", ".lock"


@dataclass
class _Upload:
    size: int
    owner: str | None = None
    used: float = field(default_factory=time.monotonic)


class Uploads:
    """The uploaded clips, and the clips that everybody may ask about.

    Args:
        folder: where uploads are put.
        most: how many there may be at a time.
        most_bytes: how large they may be together.

    Attributes:
        shared: clips that everybody may ask about; they are never removed.
    """

    def __init__(self, folder: Path, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most, self.most_bytes = Path(os.path.abspath(folder)), most, most_bytes
        self.shared: set[Path] = set()
        self._held: dict[Path, _Upload] = {}
        self._refused: OrderedDict[Path, str] = OrderedDict()
        self._previews: dict[Path, Path] = {}
        self._lock = threading.Lock()

    def place(self, name: str, *, size: int = 0) -> Path:
        """Where a new upload goes; its folder is made.

        Args:
            name: of the file, as the visitor gave it; it may be anything.
            size: of the file, in bytes.

        Raises:
            SacmaError: there are too many uploads.
        """
        path = self.folder / secrets.token_urlsafe(24) / plain_name(name)
        with self._lock:
            together = size + sum(upload.size for upload in self._held.values())
            if len(self._held) >= self.most or together > self.most_bytes:
                raise SacmaError("too many clips wait here; try again in some minutes")
            self._held[path] = _Upload(size)
        path.parent.mkdir(parents=True)
        return path

    def known(self, path: str) -> bool:
        """True for an upload that is here, whoever made it, its preview, and a shared clip."""
        with self._lock:
            one = Path(path)
            return one in self._held or one in self.shared or self._previews.get(one) in self._held

    def preview_of(self, path: Path) -> Path:
        """Where a copy of an upload goes that browsers can play; it goes with the upload."""
        preview = path.with_name(f"{path.stem[:40]}-preview.mp4")
        with self._lock:
            self._previews[preview] = path
        return preview

    def take(self, path: str, session: str) -> Path:
        """The clip that a session asks about; from now on it is this session's.

        Raises:
            SacmaError: no such upload, another session's, or one that could not be read.
        """
        wanted = Path(path)
        with self._lock:
            if wanted in self.shared:
                return wanted
            held = self._held.get(wanted)
            if held is None and wanted in self._refused:
                raise SacmaError(self._refused[wanted])
            if held is None or held.owner not in (None, session):
                raise SacmaError("this clip is no longer here; drop or record it again")
            held.owner, held.used = session, time.monotonic()
            return wanted

    def drop(self, session: str, *, keep: Collection[Path] = ()) -> None:
        """Remove all uploads of a session but those in ``keep``."""
        self._forget(lambda path, upload: upload.owner == session and path not in keep)

    def discard(self, path: Path, why: str | None = None) -> None:
        """Remove an upload; whoever asks about it again is told why, where that is given."""
        with self._lock:
            if why is not None:
                self._refused[path] = why
            while len(self._refused) > self.most:
                self._refused.popitem(last=False)
        self._forget(lambda one, _: one == path)

    def sweep(self, seconds: float) -> None:
        """Remove the uploads that nobody asked about for so many seconds."""
        oldest = time.monotonic() - seconds
        self._forget(lambda _, upload: upload.used < oldest)

    def _forget(self, chosen: Callable[[Path, _Upload], bool]) -> None:
        with self._lock:
            gone = [path for path, upload in self._held.items() if chosen(path, upload)]
            for path in gone:
                del self._held[path]
            for preview in [one for one, path in self._previews.items() if path in gone]:
                del self._previews[preview]
        for path in gone:
            remove(path.parent)


def plain_name(name: str) -> str:
    """A file name of letters, digits and a few marks, from whatever a visitor called the file.

    >>> plain_name("../../my clip.mp4"), plain_name("")
    ('my clip.mp4', 'clip')
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = "".join(letter if letter.isalnum() or letter in " ._-()" else "_" for letter in last)
    stem, suffix = os.path.splitext(plain.strip(" ."))
    suffix = suffix[:12]
    while len((stem + suffix).encode()) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + suffix or "clip"


@contextmanager
def page_folder() -> Iterator[Path]:
    """A temporary folder for a page, removed at the end; those that killed pages left are removed first.

    A page holds a lock beside its folder as long as it runs.

    Raises:
        SacmaError: no folder can be made.
    """
    _remove_left_behind()
    path = Path(tempfile.gettempdir()) / f"{_PREFIX}{secrets.token_hex(8)}"
    lock = FileLock(_lock_of(path))
    try:
        lock.acquire()
        path.mkdir(mode=0o700)
    except OSError as error:
        raise SacmaError(
            f"{path}: cannot be made ({error.strerror}); set TMPDIR to a folder with room"
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        lock.release()
        remove(_lock_of(path))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _remove_left_behind() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Others may put links here, or folders of the same name.
        if folder.is_symlink() or not folder.is_dir() or not _ours(folder):
            continue
        with suppress(Timeout, OSError), FileLock(_lock_of(folder), timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            remove(_lock_of(folder))


def _ours(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
