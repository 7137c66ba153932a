"""Ranked class names for the clips of a library, from what is kept of them: no clip is read.

The label bridge answers all clips at once from the kept evidence, without its networks. All else is answered
clip by clip from the kept features, with the library's model: other models, long clips, windows, and "none of
these".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sacma.errors import SacmaError
from sacma.frozen.catalogue import BRIDGE
from sacma.frozen.descriptions import read_class_names
from sacma.frozen.label_scores import (
    CONSTANTS,
    TEMPERATURE,
    WEIGHTS,
    Reading,
    compared,
    label_weights,
    reasons,
    unit_means,
)
from sacma.frozen.labels import Labels, audioset, imagenet
from sacma.frozen.scores import Matrix, Names, Scores, joined
from sacma.library.opened import MODALITIES, Opened, status_of
from sacma.library.store import Array, Entry, consistent
from sacma.predict.answers import Prediction, Window, carried_by
from sacma.predict.ranking import probabilities, ranked
from sacma.text.minilm import open_minilm

if TYPE_CHECKING:  # they load torch
    from sacma.predict.frozen_predictor import ZeroShot
    from sacma.predict.predictor import Predictor

_AT_ONCE = 1024
"""Clips that are scored at a time."""
_LABELS = {"audio": audioset, "video": imagenet}
_WHAT = {"audio": "sound", "video": "pictures"}
_ADVICE = "label-bridge did not listen when the library was made: it had no labels of sounds"


def predictions(
    library: Opened,
    classes: str | None,
    *,
    predictor: Predictor | ZeroShot | None = None,
    top: int = 5,
    window: float | None = None,
    hop: float | None = None,
    reject: float | None = None,
) -> Iterator[Prediction]:
    """The answer for each clip of a library, as ``sacma predict`` gives it for the clip itself.

    Args:
        library: the library.
        classes: names, as ``sacma.frozen.descriptions.read_class_names`` takes them; by default its own.
        predictor: a run or a taught model that answers; by default the model that the library was made with.
        top: names to tell.
        window: seconds of a window that slides over each clip.
        hop: seconds from one window to the next.
        reject: share of clips that may be rejected though a name is right; None never rejects.

    Raises:
        SacmaError: there are no names, a number is out of range, the library's model cannot be opened, or
            ``predictor`` needs other features.
    """
    if top < 1:
        raise SacmaError(f"top is {top}; at least one name is to be told")
    if predictor is not None:
        if predictor.backbone.provenance != library.facts["provenance"]:
            made_by = library.facts["run"] or library.facts["model"]
            raise SacmaError(
                f"{library.path}: made with {made_by}, whose features are not those of this model"
            )
        return _one_by_one(library, library.clips, classes, predictor, top=top, window=window, hop=hop)
    if library.facts["model"] != BRIDGE or window is not None or hop is not None or reject is not None:
        own = _own_model(library, reject)
        return _one_by_one(library, library.clips, classes, own, top=top, window=window, hop=hop)
    if classes is None:
        raise SacmaError(f"{BRIDGE} has no classes of its own; give names (--classes)")
    return _all_at_once(library, classes, top)


def _own_model(library: Opened, reject: float | None = None) -> Predictor | ZeroShot:
    from sacma.library.examples import open_model

    return open_model(library, reject=reject).predictor


def _one_by_one(
    library: Opened,
    clips: Sequence[Entry],
    classes: str | None,
    predictor: Predictor | ZeroShot,
    *,
    top: int,
    window: float | None = None,
    hop: float | None = None,
) -> Iterator[Prediction]:
    candidates = predictor.candidates(classes)
    for clip in clips:
        answer = partial(predictor.answer, library.features(clip), candidates)  # type: ignore[arg-type]
        yield _noted(
            answer(clip=str(clip.path), start=clip.start or 0.0, window=window, hop=hop, top=top), clip
        )


def _all_at_once(library: Opened, classes: str, top: int) -> Iterator[Prediction]:
    given = read_class_names(classes)
    names = Names(given, {"text": unit_means(open_minilm(), [one.texts for one in given])})
    kept = library.store.of_clip(0)
    labels = {name: kept[f"labels_{name}"] for name in MODALITIES if f"labels_{name}" in kept}
    spaces = [f"of_{name}" for name in labels if f"of_{name}" in library.spaces]
    arrays = library.arrays(*spaces)
    rows = np.flatnonzero(arrays.whole)
    numbers, counts = np.unique(arrays.clips[rows], return_counts=True)
    several = set(numbers[counts > 1].tolist())  # windows of long clips, which have a timeline
    rows = rows[~np.isin(arrays.clips[rows], list(several))]
    weigh = _Weights(labels, names)
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        evidence = {name.removeprefix("of_"): np.asarray(arrays.spaces[name][some]) for name in spaces}
        clips = [library.entry(clip) for clip in arrays.clips[some].tolist()]
        with consistent(library.path):
            found = list(_answered(clips, evidence, labels, names, weigh, top))
        yield from found
    long = [clip for clip in library.clips if clip.id in several]
    if long:
        yield from _one_by_one(library, long, classes, _own_model(library), top=top)


def _answered(
    clips: Sequence[Entry],
    evidence: Mapping[str, Array],
    labels: Mapping[str, Array],
    names: Names,
    weigh: _Weights,
    top: int,
) -> Iterator[Prediction]:
    """The answers for B clips of one window each, from their evidence, modality -> (B, N)."""
    scores = _scores(evidence, labels, names)
    joint, alone = probabilities(scores)
    for place, clip in enumerate(clips):
        best = ranked(joint[place], names, top)
        own = {
            name: ranked(some[place], names, 1)[0]
            for name, some in alone.items()
            if not np.isnan(some[place, 0])
        }
        start = clip.start or 0.0
        end = start + clip.seconds
        made = Prediction(
            str(clip.path),
            best,
            (Window(start, end, best, own, carried_by(best[0], own), (start, end)),),
            True,
            (*clip.notes, *_notes(labels, own)),
            model=BRIDGE,
            because=weigh.reasons(
                {name: evidence[name][place] for name in own}, int(np.argmax(joint[place]))
            ),
        )
        yield _noted(made, clip)


def _scores(evidence: Mapping[str, Array], labels: Mapping[str, Array], names: Names) -> Scores:
    vectors = names.vectors["text"]
    alone = {
        name: compared(rows.astype(np.float64), labels[name], vectors, CONSTANTS[name]) / TEMPERATURE
        for name, rows in evidence.items()
    }
    return Scores(joined(alone, WEIGHTS), alone)


class _Weights:
    """Weight of each label for each name, computed once."""

    def __init__(self, labels: Mapping[str, Array], names: Names) -> None:
        self._vectors, self._names = labels, names
        self._labels: dict[str, Labels] = {name: _LABELS[name]() for name in labels}
        self._known: dict[tuple[str, int], Matrix] = {}

    def reasons(self, evidence: Mapping[str, Array], best: int) -> tuple[str, ...]:
        """Strongest reasons for a name, see ``label_scores.reasons``."""
        return reasons(
            Reading(row, self._labels[name].names, self._of(name, best)) for name, row in evidence.items()
        )

    def _of(self, modality: str, best: int) -> Matrix:
        key = (modality, best)
        if key not in self._known:
            vector = self._names.vectors["text"][best]
            self._known[key] = label_weights(modality, self._vectors[modality], vector)
        return self._known[key]


def _notes(labels: Mapping[str, Array], own: Mapping[str, object]) -> list[str]:
    missing = [f"no {_WHAT[name]} in it: answered without" for name in labels if name not in own]
    return [*([_ADVICE] if "audio" not in labels else []), *missing]


def _noted(made: Prediction, clip: Entry) -> Prediction:
    """With a remark where the file is another one by now."""
    remark = {"gone": "the file is gone", "changed": "the file was changed since it was indexed"}
    status = status_of(clip)
    return replace(made, notes=(*made.notes, remark[status])) if status else made
