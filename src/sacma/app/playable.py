"""Players of clips in the browser: the upload itself, or a copy in a container that browsers know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from sacma.app.uploads import Uploads
from sacma.errors import SacmaError
from sacma.files import remove
from sacma.media.decode import Clip, Limits

AS_IT_IS = frozenset({".mp4", ".m4v", ".m4a", ".webm", ".ogg", ".oga", ".opus", ".mp3", ".wav", ".flac"})
"""Endings of files that browsers play."""
MOST_BYTES = 512 << 20
"""Of a copy."""


@dataclass(frozen=True)
class Player:
    """Player of a clip.

    Attributes:
        address: of the file, on this page.
        pictures: the file has some.
    """

    address: str
    pictures: bool

    @classmethod
    def of(cls, path: Path, *, pictures: bool) -> Self:
        """The player of a file that the page gives out."""
        return cls(f"/gradio_api/file={quote(str(path))}", pictures)


def player_of(path: Path, uploads: Uploads, limits: Limits, *, pictures: bool) -> Player | None:
    """The player of a clip; None where browsers play no stream of it.

    A clip in a container that browsers do not know, such as .mkv, is copied to an MP4 file beside it, as far
    as its codecs allow; nothing is encoded anew.

    Args:
        path: an upload, or a clip that everybody may ask about.
        uploads: all of them.
        limits: what a clip may ask of us.
        pictures: the clip has some.
    """
    if path.suffix.lower() not in AS_IT_IS:
        if path in uploads.shared:  # nothing is written beside clips that are not ours
            return None
        copy = uploads.preview_of(path)
        try:
            if not copy.exists():
                _write(Clip.open(path, limits=limits), copy)
        except (SacmaError, OSError):
            remove(copy)
            return None
        path = copy
    return Player.of(path, pictures=pictures)


def _write(clip: Clip, path: Path) -> None:
    size = 0
    with path.open("xb") as file:
        for block in clip.remuxed():
            size += len(block)
            if size > MOST_BYTES:
                raise SacmaError("too large to copy")
            file.write(block)
