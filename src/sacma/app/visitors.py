"""The clips of each visitor, and the answers to what is asked about them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacma.app import view as page
from sacma.app.advice import for_visitors
from sacma.app.playable import Player, player_of
from sacma.app.timeline import window_of
from sacma.app.times import seconds_of
from sacma.app.uploads import Uploads
from sacma.app.view import Look
from sacma.errors import SacmaError
from sacma.media.extract import ClipFeatures
from sacma.predict import Prediction, Predictor, ZeroShot
from sacma.text.names import read_names

Answering = Predictor | ZeroShot
"""What answers on the page."""
LONGEST_NAME = 200
"""Letters of a name in a correction."""
LONGEST_TEXT = 20_000
"""Letters in the field of class names."""
REMEMBERED = 40
"""Clips that are kept as features; others are read again when somebody asks."""


@dataclass(frozen=True)
class _Held:
    """A clip of a visitor, or a part of it, with its features, its pictures and what plays it."""

    features: ClipFeatures
    look: Look
    player: Player | None


_Part = tuple[Path, float | None, float | None]
"""A clip, and from when to when it is asked about."""


class Visitors:
    """The clips of each visitor, by session; those of a new question replace the old ones.

    Args:
        predictor: the model that answers.
        uploads: the uploaded clips.
        remembered: clips whose features are kept.
        name: of these questions, where several models answer on one page.
        teach: visitors may correct a model that can be taught.
    """

    def __init__(
        self,
        predictor: Answering,
        uploads: Uploads,
        *,
        remembered: int = REMEMBERED,
        name: str = "",
        teach: bool = False,
    ) -> None:
        self.predictor, self.uploads, self.remembered, self.name = predictor, uploads, remembered, name
        self.teaches = teach and hasattr(predictor, "correct")
        self._held: OrderedDict[str, dict[_Part, _Held]] = OrderedDict()
        self._lock, self._teaching = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        """Visitors whose features are kept."""
        return sum(1 for parts in self._held.values() if parts)

    def answer(self, clips: str | Sequence[str] | None, names: str, session: str, **part: str) -> str:
        """The HTML of the answers to a visitor, or of an error; see ``answers``."""
        *_, last = self.answers(clips, names, session, **part)
        return last

    def answers(
        self, clips: str | Sequence[str] | None, names: str, session: str, *, start: str = "", end: str = ""
    ) -> Iterator[str]:
        """The HTML of the answers to a visitor, anew after each clip, or of an error.

        Args:
            clips: paths of uploads.
            names: what the visitor wrote, one a line or with commas between.
            session: of the visitor.
            start: where the part of each clip begins, as the visitor wrote it.
            end: where it ends.
        """
        given = [clips] if isinstance(clips, str) else list(clips or ())
        if not given:
            yield page.render_error("Drop or record a clip first.")
            return
        if len(names) > LONGEST_TEXT:
            yield page.render_error(f"More than {LONGEST_TEXT:,} characters of names; give fewer.")
            return
        try:
            paths = [self.uploads.take(clip, self._owner(session)) for clip in given]
            part = (seconds_of(start, "Start"), seconds_of(end, "End"))
            candidates: Any = self.predictor.candidates(read_names(names, files=False))
        except SacmaError as error:
            yield self._told(error, given)
            return
        self._keep_only(paths, session)
        done: list[Prediction] = []
        cards: list[str] = []
        for number, path in enumerate(paths, start=1):
            try:
                prediction, card = self._one((path, *part), candidates, session)
                done.append(prediction)
            except SacmaError as error:
                self.uploads.discard(path, str(error))
                card = self._told(error, given)
            cards.append(card)
            yield page.render_answers(cards, done, left=len(paths) - number)

    def _one(self, part: _Part, candidates: Any, session: str) -> tuple[Prediction, str]:
        held = self._hold(part, session)
        model = self.predictor
        backbone = model.backbone
        least = max(backbone.audio.step_seconds, backbone.video.step_seconds)
        prediction = model.answer(
            held.features,
            candidates,
            clip=part[0].name,
            start=part[1] or 0.0,
            window=window_of(held.look.seconds, least),
            top=page.TOP,
        )
        attention, places = model.attention(held.features), model.places(held.features, candidates)
        shown = page.render_answer(
            prediction,
            candidates,
            held.look,
            attention,
            places,
            model,
            player=held.player,
            lesson=str(part[0]) if self.teaches else None,
        )
        return prediction, shown

    def teach(self, lesson: str, session: str, *, start: str = "", end: str = "") -> str:
        """Correct the model by what a visitor says a clip is; the HTML of what came of it.

        Args:
            lesson: JSON of an object with the ``clip`` and its right ``name``.
            session: of the visitor.
            start: where the part of the clip begins, as the visitor wrote it.
            end: where it ends.
        """
        try:
            told = json.loads(lesson)
            clip, name = str(told["clip"]), str(told["name"]).strip()
        except (ValueError, TypeError, KeyError, RecursionError):
            return page.render_error("This is nothing that the page says.")
        if not self.teaches:
            return page.render_error("The model on this page takes no corrections.")
        if not name or len(name) > LONGEST_NAME:
            return page.render_error(f"Write what it is, in {LONGEST_NAME} characters at most.")
        try:
            path = self.uploads.take(clip, self._owner(session))
            part = {"start": seconds_of(start, "Start"), "end": seconds_of(end, "End")}
            model: Any = self.predictor
            with self._teaching:
                model.correct(path, name, **part)
        except SacmaError as error:
            return self._told(error, [clip])
        return page.render_message(f"Thank you: {path.name} is {name}. The model has learned it.")

    def _told(self, error: SacmaError, clips: Sequence[str]) -> str:
        said = str(error)
        for clip in clips:
            said = said.replace(str(clip), Path(clip).name)
        return page.render_error(for_visitors(said, self.predictor.limits))

    def claim(self, clips: str | Sequence[str] | None, session: str) -> None:
        """A visitor has uploaded clips: they are theirs, and go when they leave."""
        for clip in [clips] if isinstance(clips, str) else clips or ():
            with suppress(SacmaError):
                self.uploads.take(clip, self._owner(session))

    def _owner(self, session: str) -> str:
        return f"{session}/{self.name}"

    def _keep_only(self, paths: Sequence[Path], session: str) -> None:
        self.uploads.drop(self._owner(session), keep=paths)
        with self._lock:
            kept = self._held.pop(session, {})
            self._held[session] = {part: held for part, held in kept.items() if part[0] in paths}

    def _hold(self, part: _Part, session: str) -> _Held:
        with self._lock:
            held = self._held.get(session, {}).get(part)
        if held is not None:
            return held
        path, start, end = part
        features = self.predictor.features(path, start=start, end=end)
        seconds = self.predictor.seconds(features)
        look = page.look_at(path, features, seconds, self.predictor.limits, start=start or 0.0)
        player = player_of(path, self.uploads, self.predictor.limits, pictures=bool(look.frames))
        held = _Held(features, look, player)
        with self._lock:
            if session in self._held:
                self._held[session][part] = held
            self._bound()
        return held

    def _bound(self) -> None:
        """Forget the clips of those who asked longest ago, where there are too many."""
        while sum(map(len, self._held.values())) > self.remembered:
            oldest = next(iter(self._held))
            parts = self._held[oldest]
            if parts:
                del parts[next(iter(parts))]
            if not parts and len(self._held) > 1:
                del self._held[oldest]

    def drop(self, session: str) -> None:
        """Forget a visitor's clips and remove the files."""
        with self._lock:
            self._held.pop(session, None)
        self.uploads.drop(self._owner(session))

    def sweep(self, seconds: float) -> None:
        """Forget and remove the clips that nobody asked about for so many seconds."""
        self.uploads.sweep(seconds)
        with self._lock:
            for session, parts in list(self._held.items()):
                if not parts or not all(self.uploads.known(str(path)) for path, _, _ in parts):
                    del self._held[session]
