"""Sources of clips: files by path, open files, and arrays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sacma.errors import SacmaError
from sacma.media.decode import Clip, Film, Limits
from sacma.media.recording import Played, Recording

ClipSource = str | Path | Film | Recording | BinaryIO
"""Path of a media file, an open one (it is read from where it stands), or arrays."""


def name_of(source: ClipSource) -> str:
    """Name of a clip in answers and messages: its path, or what an open file is called."""
    if isinstance(source, str | Path | Film | Recording):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "open file"


@contextmanager
def settled(source: ClipSource) -> Iterator[str | Path | Film | Recording]:
    """A clip that can be opened more than once: the content of an open file, in a temporary file meanwhile.

    Clips are decoded by another process, which reads files alone.

    Args:
        source: the clip.

    Raises:
        SacmaError: an open file cannot be read or was opened as text, or ``source`` is nothing such.
    """
    if isinstance(source, str | Path | Film | Recording):
        yield source
        return
    name = name_of(source)
    if not hasattr(source, "read"):
        raise SacmaError(
            f"a clip of type {type(source).__name__}; give a path, a file opened with 'rb', or a "
            "sacma.Recording of arrays"
        )
    with tempfile.TemporaryDirectory(prefix="sacma-") as folder:
        path = Path(folder) / "clip"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(source, file)
        except TypeError as error:
            raise SacmaError(f"{name}: opened as text; open it with 'rb'") from error
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise SacmaError(f"{name}: cannot be read ({error}); open it again") from error
        try:
            yield path
        except SacmaError as error:
            raise SacmaError(str(error).replace(str(path), name)) from error


@contextmanager
def opened(source: ClipSource, *, limits: Limits) -> Iterator[Clip | Played]:
    """A clip, ready to be decoded.

    Args:
        source: the clip.
        limits: what is refused.

    Raises:
        SacmaError: see ``settled`` and ``Clip.open``.
    """
    with settled(source) as one:
        yield Played(one, limits=limits) if isinstance(one, Recording) else Clip.open(one, limits=limits)
