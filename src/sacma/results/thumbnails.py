"""Small pictures of clips, as data addresses for a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sacma.errors import SacmaError
from sacma.media.containers import LIMITS
from sacma.media.decode import Clip
from sacma.media.jpeg import data_address

SIDE = 96
"""Pixels of the shorter side."""


def thumbnails(names: Sequence[str], folder: Path) -> dict[str, str]:
    """The middle picture of each clip that is found; a clip that is not, or has no picture, is left out.

    Args:
        names: of the clips, as the features have them: paths within ``folder``, with or without an ending.
        folder: of the clips.

    Returns:
        Name -> address of a JPEG picture.

    Raises:
        SacmaError: there is no such folder.
    """
    if not folder.is_dir():
        raise SacmaError(f"{folder}: no such folder of clips")
    whole = folder.resolve()
    files: dict[str, Path] = {}
    for path in sorted(whole.rglob("*")):
        if path.is_file():
            inside = path.relative_to(whole)
            for key in (path.stem, path.name, str(inside.with_suffix("")), str(inside)):
                files[key] = path  # whole paths are more telling than names: they come last
    found = {}
    for name in names:
        if name in files and (picture := _middle(files[name])):
            found[name] = picture
    return found


def _middle(path: Path) -> str:
    """The address of a clip's middle picture; empty where there is none."""
    try:
        clip = Clip.open(path, limits=LIMITS)
        if not clip.has_video:
            return ""
        start = (clip.seconds or 0.0) / 2
        _, frame = next(clip.frames(rate=1.0, size=SIDE, start=start, end=start + 1))
    except (SacmaError, StopIteration):
        return ""
    return data_address(frame)
