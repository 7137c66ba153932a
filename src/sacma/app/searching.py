"""Search of the page over a library of clips."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sacma.app import view as page
from sacma.app.advice import for_visitors
from sacma.app.playable import AS_IT_IS, Player
from sacma.app.uploads import Uploads
from sacma.errors import SacmaError
from sacma.library.search import Library, open_library
from sacma.media.decode import LIMITS

MODALITIES = {"Pictures and sound": None, "Pictures": "video", "Sound": "audio"}
"""What a search goes by, as the page says it."""
MOMENTS = 12
LONGEST_QUERY = 300
"""Letters."""


class Searching:
    """Answers searches in a library; what is found can be played on the page, by every visitor.

    Args:
        library: its folder.
        uploads: those of the page, which says what may be played.

    Raises:
        SacmaError: see ``open_library``.
    """

    def __init__(self, library: Path, uploads: Uploads) -> None:
        self.uploads = uploads
        self._thread = ThreadPoolExecutor(1)  # the library's file is for the thread that opened it
        self._library: Library = self._thread.submit(open_library, library).result()

    def __len__(self) -> int:
        """Number of clips in the library."""
        return self._thread.submit(lambda: len(self._library.clips)).result()

    def answer(self, text: str, by: str) -> str:
        """The HTML of the moments that fit a text best, or of an error.

        Args:
            text: what a visitor looks for.
            by: a key of ``MODALITIES``.
        """
        if not text.strip():
            return page.render_error("Write what you look for.")
        if len(text) > LONGEST_QUERY or by not in MODALITIES:
            return page.render_error(f"More than {LONGEST_QUERY} characters; write fewer.")
        try:
            asked: dict[str, Any] = {"top": MOMENTS, "modality": MODALITIES[by]}
            found = self._thread.submit(self._library.search, text, **asked).result()
        except SacmaError as error:
            return page.render_error(for_visitors(str(error), LIMITS))
        players = []
        for moment in found:
            path = Path(moment.clip)
            plays = path.suffix.lower() in AS_IT_IS and moment.status != "gone"
            if plays:
                self.uploads.shared.add(path)
            players.append(Player.of(path, pictures=True) if plays else None)
        return page.render_moments(text, list(zip(found, players, strict=True)))
