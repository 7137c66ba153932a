"""Clips and class names in, ranked names out, by a frozen model: without any training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack, overload

import numpy as np

from sacma.errors import SacmaError
from sacma.frozen.descriptions import read_class_names
from sacma.frozen.opening import open_frozen
from sacma.frozen.rejection import Rejection
from sacma.frozen.scores import FrozenModel, Names
from sacma.media.backbones import Backbone, looks
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures
from sacma.media.sources import ClipSource
from sacma.predict.answers import Prediction, Predictions, Window, carried_by
from sacma.predict.asking import Part, Several, answered
from sacma.predict.ranking import probabilities, ranked
from sacma.predict.timeline import Segment, best_path, cells, prices, segments
from sacma.predict.windows import cut_note, stands_for, windows_of
from sacma.progress import OnProgress

_AT_ONCE = 64
"""Windows that are scored at a time."""
_MODALITIES = {"audio": "sound", "video": "pictures"}
Given = str | Iterable[str] | Names | None


class ZeroShot:
    """A frozen model that answers for clips, with the same answers as ``sacma.Predictor``.

    Args:
        model: the frozen model.
        limits: what a clip may ask of us.
        reject: share of clips that may be rejected though a name is right; None never rejects.

    Example:
        >>> zero_shot = sacma.zero_shot()  # doctest: +SKIP
        >>> zero_shot("clip.mp4", ["dog barking", "playing harp"]).best.name  # doctest: +SKIP
        'playing harp'
    """

    own_names: tuple[str, ...] = ()

    def __init__(self, model: FrozenModel, *, limits: Limits = LIMITS, reject: float | None = None) -> None:
        self.model, self.limits = model, limits
        self._rejection = None if reject is None else Rejection(model, reject)

    @property
    def backbone(self) -> Backbone:
        """The backbone that makes the model's features."""
        return self.model.backbone

    def candidates(
        self, names: str | Iterable[str] | Names | None = None, *, on_progress: OnProgress | None = None
    ) -> Names:
        """Class names, encoded once for many clips.

        Args:
            names: as ``sacma.frozen.descriptions.read_class_names`` takes them; a name may bring
                descriptions, ``erhu: Chinese fiddle``.
            on_progress: called with the names encoded and all names.

        Raises:
            SacmaError: there are no names, or one cannot be used.
        """
        if isinstance(names, Names):
            return names
        if names is None:
            raise SacmaError(f"{self.model.name} has no classes of its own; give names (--classes)")
        return self.model.names(read_class_names(names), on_progress=on_progress)

    def features(
        self, clip: ClipSource, *, start: float | None = None, end: float | None = None
    ) -> ClipFeatures:
        """The features of a clip, or of its part from ``start`` to ``end`` seconds.

        Raises:
            SacmaError: see ``sacma.media.extract.extract_clip``.
        """
        return self.model.features(clip, start=start, end=end, limits=self.limits)

    def seconds(self, features: ClipFeatures) -> float:
        """Length of a clip: that of its steps, at most that which the clip states."""
        pairs = ((features.audio, self.backbone.audio), (features.video, self.backbone.video))
        lasting = max(
            0.0 if steps is None else len(steps.values) * encoder.step_seconds for steps, encoder in pairs
        )
        said = features.seconds
        least = min(encoder.step_seconds for steps, encoder in pairs if steps is not None)
        # A step of ten seconds stands for what is shorter, too.
        return lasting if said is None or said <= 0 or least < 2 else min(lasting, said)

    @overload
    def predict(self, clip: ClipSource, classes: Given = None, **part: Unpack[Part]) -> Prediction: ...
    @overload
    def predict(self, clip: Several, classes: Given = None, **part: Unpack[Part]) -> Predictions: ...
    def predict(
        self,
        clip: ClipSource | Several,
        classes: Given = None,
        *,
        start: float | None = None,
        end: float | None = None,
        window: float | None = None,
        hop: float | None = None,
        top: int = 5,
    ) -> Prediction | Predictions:
        """Rank class names for a clip, or for each of several.

        Args:
            clip: path of a media file, an open one, a ``sacma.Recording`` of arrays, or a list of these.
            classes: the names to tell apart; see ``candidates``.
            start: seconds where the part of the clip begins.
            end: seconds where it ends.
            window: seconds of a window that slides over the clip; by default the clip is one, or is cut where
                it is longer than ``sacma.predict.windows.LONGEST`` seconds.
            hop: seconds from one window to the next, by default half a window.
            top: how many names an answer has at most.

        Returns:
            The answer; for a list ``Predictions``, whose ``failed`` says which clips cannot be used and why.

        Raises:
            SacmaError: the clip (of a list: every clip), a name or a number cannot be used; it says which and
                why.
        """
        names = self.candidates(classes)
        return answered(self, clip, names, start=start, end=end, window=window, hop=hop, top=top)

    __call__ = predict

    def answer(
        self,
        features: ClipFeatures,
        candidates: Names,
        *,
        clip: str = "",
        start: float = 0.0,
        window: float | None = None,
        hop: float | None = None,
        top: int = 5,
    ) -> Prediction:
        """``predict`` for features that are there already; ``start`` is where they begin in the clip."""
        seconds = self.seconds(features)
        parts = windows_of(seconds, window=window, hop=hop, least=self.shortest, clip=clip)
        stands = stands_for(parts)
        windows: list[Window] = []
        total = np.zeros(len(candidates))
        for first in range(0, len(parts), _AT_ONCE):
            some = parts[first : first + _AT_ONCE]
            scores = self.model.scores(features, some, candidates)
            joint, alone = probabilities(scores)
            total += np.nansum(joint, axis=0)
            for row, seen in enumerate(some):
                begin, end = stands[first + row]
                best = ranked(joint[row], candidates, top)
                own = {
                    modality: ranked(rows[row], candidates, 1)[0]
                    for modality, rows in alone.items()
                    if not np.isnan(rows[row, 0])
                }
                looked = (start + seen[0], start + seen[1])
                windows.append(
                    Window(start + begin, start + end, best, own, carried_by(best[0], own), looked)
                )
        answers = ranked(total / total.sum(), candidates, top)
        place = [one.name for one in candidates.given].index(answers[0].name)
        whole = (0.0, seconds)
        because = self.model.because(features, whole, candidates, place)
        fit, rejected = None, False
        if self._rejection is not None:
            joint = self.model.scores(features, [whole], candidates).joint
            fit = self._rejection.fit(features, whole, candidates, joint)
            rejected = fit < self._rejection.threshold(features)
        notes = (*features.notes, *cut_note(parts, window), *self._notes(features), *candidates.notes)
        return Prediction(
            clip,
            answers,
            tuple(windows),
            self.model.calibrated,
            notes,
            model=self.model.name,
            because=because,
            fit=fit,
            rejected=rejected,
            timeline=() if len(parts) == 1 else self._timeline(features, candidates, parts, start),
        )

    def _timeline(
        self, features: ClipFeatures, candidates: Names, parts: Sequence[tuple[float, float]], start: float
    ) -> tuple[Segment, ...]:
        """The course of a clip that was cut into parts."""
        some = cells(self.seconds(features))
        joint, alone = probabilities(self.model.scores(features, some, candidates))
        pairs = ((features.audio, self.backbone.audio), (features.video, self.backbone.video))
        seen = [(steps, one.step_seconds, looks(one)) for steps, one in pairs if steps is not None]
        path = best_path(joint, prices(seen, some, parts[0][1] - parts[0][0]))
        shown = [(start + begin, start + end) for begin, end in some]
        return segments(shown, path.tolist(), joint, alone, [one.name for one in candidates.given])

    def attention(self, features: ClipFeatures) -> None:
        """Nothing: attention over time is SACMA's alone."""

    def places(self, features: ClipFeatures, candidates: Names) -> None:
        """Nothing: the map of names is SACMA's alone."""

    @property
    def shortest(self) -> float:
        """Seconds of the shortest window, one step."""
        return max(self.backbone.audio.step_seconds, self.backbone.video.step_seconds)

    @property
    def unused(self) -> list[str]:
        """For each modality that the model does not read, a line with what would change that."""
        return [
            f"{self.model.name} does not use {what} here{self.model.advice}"
            for modality, what in _MODALITIES.items()
            if modality not in self.model.modalities
        ]

    def _notes(self, features: ClipFeatures) -> list[str]:
        notes = self.unused
        for modality, what in _MODALITIES.items():
            if modality in self.model.modalities and getattr(features, modality) is None:
                notes.append(f"no {what} in it: answered without")
        if self._rejection is not None and self._rejection.note:
            notes.append(self._rejection.note)
        if not self.model.calibrated:
            notes.append("probabilities are not calibrated: they rank names")
        return notes


def zero_shot(
    name: str | None = None,
    *,
    audio_weights: str | Path | None = None,
    prompts: str | None = None,
    reject: float | None = None,
    precision: str = "full",
    limits: Limits = LIMITS,
    device: str = "cpu",
) -> ZeroShot:
    """Open a frozen model: it names clips without any training.

    Args:
        name: of the model, see ``sacma models``; by default the best one at hand.
        audio_weights: weights for sound, where the model needs a file for it.
        prompts: that names are put into, see ``sacma.frozen.prompts``.
        reject: tell where none of the names fits; the share of clips for which this may be wrong.
        precision: of a joint encoder's networks: ``full``, ``bfloat16``, or ``half`` on a GPU.
        limits: what a clip may ask of us.
        device: where its networks run.

    Raises:
        SacmaError: no such model, or its weights are not there or cannot be loaded.
    """
    model = open_frozen(
        name, audio_weights=audio_weights, prompts=prompts, precision=precision, device=device
    )
    return ZeroShot(model, limits=limits, reject=reject)
