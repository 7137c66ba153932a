"""Clips of data sets that become files for a short time."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from sacma.files import remove
from sacma.media.listing import ClipFile


class PassingClips:
    """A folder for the files of clips while their turn lasts; a context manager that removes it."""

    def __init__(self) -> None:
        """Make the folder."""
        self._folder = Path(tempfile.mkdtemp(prefix="sacma-clips-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def release(self, clip: ClipFile) -> None:
        """Remove the files of a clip that is done; a file that the user has of it stays."""
        for path in (clip.path, clip.sound):
            if path is not None and path.parent == self._folder:
                remove(path)
