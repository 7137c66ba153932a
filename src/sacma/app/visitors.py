"""The clip of each visitor, and the answers to what is asked about it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacma.app import view as page
from sacma.app.advice import for_visitors
from sacma.app.uploads import Uploads
from sacma.app.view import Look
from sacma.errors import SacmaError
from sacma.media.extract import ClipFeatures
from sacma.predict import Predictor, ZeroShot
from sacma.text.names import read_names

Answering = Predictor | ZeroShot
"""What answers on the page."""
LONGEST_TEXT = 20_000
"""Letters in the field of class names."""
REMEMBERED = 40
"""Visitors whose clip is kept as features; that of others is read again when they ask."""


@dataclass(frozen=True)
class _Held:
    """A clip of a visitor, with its features and its pictures."""

    path: Path
    features: ClipFeatures
    look: Look


class Visitors:
    """The clip of each visitor, by session; a new clip replaces the old one.

    Args:
        predictor: the model that answers.
        uploads: the uploaded clips.
        remembered: visitors whose features are kept.
    """

    def __init__(self, predictor: Answering, uploads: Uploads, *, remembered: int = REMEMBERED) -> None:
        self.predictor, self.uploads, self.remembered = predictor, uploads, remembered
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Visitors whose features are kept."""
        return len(self._held)

    def answer(self, clip: str | None, names: str, session: str) -> str:
        """The HTML of the answer to a visitor, or of an error."""
        if not clip:
            return page.render_error("Drop or record a clip first.")
        if len(names) > LONGEST_TEXT:
            return page.render_error(f"More than {LONGEST_TEXT:,} characters of names; give fewer.")
        try:
            path = self.uploads.take(clip, session)
            candidates: Any = self.predictor.candidates(read_names(names, files=False))
            held = self._hold(path, session)
            prediction = self.predictor.answer(held.features, candidates, clip=held.path.name, top=page.TOP)
            return page.render_answer(
                prediction,
                candidates,
                held.look,
                self.predictor.attention(held.features),
                self.predictor.places(held.features, candidates),
                self.predictor,
            )
        except SacmaError as error:
            said = str(error).replace(str(clip), Path(clip).name)
            return page.render_error(for_visitors(said, self.predictor.limits))

    def claim(self, clip: str | None, session: str) -> None:
        """A visitor has uploaded a clip: it is theirs, and goes when they leave."""
        if clip:
            with suppress(SacmaError):
                self.uploads.take(clip, session)

    def _hold(self, path: Path, session: str) -> _Held:
        self.uploads.drop(session, keep=path)
        with self._lock:
            held = self._held.get(session)
            if held is not None and held.path == path:
                self._held.move_to_end(session)
                return held
            self._held.pop(session, None)
        try:
            features = self.predictor.features(path)
            look = page.look_at(path, features, self.predictor.seconds(features), self.predictor.limits)
        except SacmaError as error:
            self.uploads.discard(path, str(error))
            raise
        held = _Held(path, features, look)
        with self._lock:
            self._held[session] = held
            while len(self._held) > self.remembered:
                self._held.popitem(last=False)
        return held

    def drop(self, session: str) -> None:
        """Forget a visitor's clip and remove the file."""
        with self._lock:
            self._held.pop(session, None)
        self.uploads.drop(session)

    def sweep(self, seconds: float) -> None:
        """Forget and remove the clips that nobody asked about for so many seconds."""
        self.uploads.sweep(seconds)
        with self._lock:
            for session in [s for s, held in self._held.items() if not self.uploads.known(str(held.path))]:
                del self._held[session]
