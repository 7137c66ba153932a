"""Search of the page over a library of clips."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from sacma.app import view as page
from sacma.app.advice import for_visitors
from sacma.app.playable import AS_IT_IS, Player
from sacma.app.uploads import Uploads
from sacma.errors import SacmaError
from sacma.library.search import Library, open_library
from sacma.media.decode import LIMITS, Limits

MODALITIES = {"Pictures and sound": None, "Pictures": "video", "Sound": "audio"}
"""What a search goes by, as the page says it."""
MOMENTS = 12
LONGEST_QUERY = 300
"""Letters."""
LONGEST_PATH = 4000
"""Letters."""


class Searching:
    """Answers searches in a library; what is found can be played on the page, by every visitor.

    Args:
        library: its folder; None where visitors name one first.
        uploads: those of the page, which says what may be played.
        limits: what an example may ask of us.
        opens: visitors may open another library of this machine by its path.

    Raises:
        SacmaError: see ``open_library``.
    """

    def __init__(
        self, library: Path | None, uploads: Uploads, *, limits: Limits = LIMITS, opens: bool = False
    ) -> None:
        self.uploads, self.limits, self.opens = uploads, limits, opens
        self._thread = ThreadPoolExecutor(1)  # the library's file is for the thread that opened it
        self._library: Library | None = None
        if library is not None:
            self._thread.submit(self._open, library).result()

    def _open(self, path: Path) -> None:
        opened = open_library(path, limits=self.limits)
        if self._library is not None:
            self._library.close()
        self._library = opened

    @property
    def folder(self) -> str:
        """Path of the library; empty where there is none."""
        return "" if self._library is None else str(self._library.path)

    def __len__(self) -> int:
        """Number of clips in the library."""
        return self._thread.submit(lambda: 0 if self._library is None else len(self._library.clips)).result()

    def open(self, path: str) -> str:
        """Open another library; the HTML of what came of it.

        Args:
            path: of its folder, as a visitor wrote it.
        """
        given = path.strip().strip("'\"")
        if not self.opens or not given or len(given) > LONGEST_PATH or "\0" in given:
            return page.render_error("Write the folder of a library on this machine.")
        try:
            self._thread.submit(self._open, Path(given).expanduser()).result()
        except SacmaError as error:
            return page.render_error(str(error))
        return page.render_message(f"{len(self):,} clips can be searched.")

    def clip(self, named: str) -> str:
        """Path of a clip of the library, which everybody may ask about and play from now on.

        Args:
            named: its path or file name, as a visitor wrote it.

        Raises:
            SacmaError: there is none of that name, several, or the file is gone.
        """
        given = named.strip().strip("'\"")
        if self._library is None:
            raise SacmaError("Open a library on the tab Search first; sacma index makes one.")
        library = self._library
        paths = {entry.path for entry in self._thread.submit(lambda: library.clips).result()}
        found = [path for path in sorted(paths) if given in (str(path), path.name)]
        if not found:
            raise SacmaError(f"No clip {Path(given).name} in the library; the tab Search tells the names.")
        if len(found) > 1:
            raise SacmaError(f"{len(found)} clips of the library are named {given}; write the whole path.")
        if not found[0].is_file():
            raise SacmaError(f"The file of {given} is no longer here.")
        self.uploads.shared.add(found[0])
        return str(found[0])

    def answer(self, text: str, by: str, example: str | None = None, session: str = "") -> str:
        """The HTML of the moments that fit a text, an example or both best, or of an error.

        Args:
            text: what a visitor looks for.
            by: a key of ``MODALITIES``.
            example: path of an upload that is looked and sounded like.
            session: of the visitor.
        """
        if not text.strip() and example is None:
            return page.render_error("Write what you look for, or drop an example.")
        if len(text) > LONGEST_QUERY or by not in MODALITIES:
            return page.render_error(f"More than {LONGEST_QUERY} characters; write fewer.")
        if self._library is None:
            return page.render_error("Open a library first; sacma index makes one.")
        try:
            asked: dict[str, Any] = {"top": MOMENTS, "modality": MODALITIES[by]}
            if example is not None:
                asked["like"] = self.uploads.take(example, self._owner(session))
            found = self._thread.submit(self._library.search, text.strip() or None, **asked).result()
        except SacmaError as error:
            told = for_visitors(str(error), self.limits)
            return page.render_error(told if example is None else told.replace(example, Path(example).name))
        players = []
        for moment in found:
            path = Path(moment.clip)
            plays = path.suffix.lower() in AS_IT_IS and moment.status != "gone"
            if plays:
                self.uploads.shared.add(path)
            players.append(Player.of(path, pictures=True) if plays else None)
        shown = [text.strip()] if text.strip() else []
        shown += [f"like {Path(example).name}"] if example is not None else []
        pairs = list(zip(found, players, strict=True))
        return page.render_moments(", ".join(shown), pairs, note=found.note)

    def claim(self, example: str | None, session: str) -> None:
        """Take an upload for a visitor before anything is asked, so that it goes when the visitor leaves."""
        if example is not None:
            with suppress(SacmaError):
                self.uploads.take(example, self._owner(session))

    def drop(self, session: str) -> None:
        """Remove the examples of a visitor."""
        self.uploads.drop(self._owner(session))

    @staticmethod
    def _owner(session: str) -> str:
        return f"search {session}"
