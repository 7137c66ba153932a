"""Search of the page over a library of clips."""

from __future__ import annotations

import threading
from pathlib import Path

from sacma.app import view as page
from sacma.app.advice import for_visitors
from sacma.app.playable import AS_IT_IS, Player
from sacma.app.uploads import Uploads
from sacma.errors import SacmaError
from sacma.library.search import Library
from sacma.media.decode import LIMITS

MODALITIES = {"Pictures and sound": None, "Pictures": "video", "Sound": "audio"}
"""What a search goes by, as the page says it."""
MOMENTS = 12
LONGEST_QUERY = 300
"""Letters."""


class Searching:
    """Answers searches in a library; what is found can be played on the page, by every visitor.

    Args:
        library: open.
        uploads: those of the page, which says what may be played.
    """

    def __init__(self, library: Library, uploads: Uploads) -> None:
        self.library, self.uploads = library, uploads
        self._lock = threading.Lock()

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
            with self._lock:  # a library is open once
                found = self.library.search(text, top=MOMENTS, modality=MODALITIES[by])
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
