"""Vectors and frozen scores of taught clips, kept from one lesson to the next.

A lesson costs the frozen scores of what is new: a new clip for all classes, a new class for all clips.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.descriptions import ClassName
from sacma.frozen.scores import FrozenModel, Matrix, Window
from sacma.learn.shots import MODALITIES, vectors
from sacma.media.extract import ClipFeatures


@dataclass(frozen=True)
class Rows:
    """Vectors and frozen scores of clips.

    Attributes:
        clips: N names of clips.
        classes: K names of classes with their descriptions, see ``class_id``.
        x: modality -> (N, D), see ``sacma.learn.shots.vectors``.
        frozen: (N, K) scores of the model beneath.
    """

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    x: Mapping[str, Matrix]
    frozen: Matrix

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rows as arrays of a file."""
        named = {f"x_{modality}": rows for modality, rows in self.x.items()}
        names = {"clips": np.array(self.clips), "classes": np.array(self.classes)}
        return {**named, **names, "frozen": self.frozen}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any]) -> Rows:
        """The rows of such a file.

        Raises:
            ValueError: they do not fit together.
            KeyError: one is missing.
        """
        clips, classes = (tuple(str(one) for one in arrays[name].tolist()) for name in ("clips", "classes"))
        made = cls(clips, classes, {m: arrays[f"x_{m}"] for m in MODALITIES}, arrays["frozen"])
        if made.frozen.shape != (len(clips), len(classes)) or any(
            rows.ndim != 2 or len(rows) != len(clips) for rows in made.x.values()
        ):
            raise ValueError("arrays of different lengths")
        return made


NO_ROWS = Rows((), (), {modality: np.empty((0, 0)) for modality in MODALITIES}, np.empty((0, 0)))
"""Rows of no clips."""


def class_id(one: ClassName) -> str:
    """The same for the same name and descriptions."""
    return hashlib.sha256(json.dumps([one.name, *one.descriptions]).encode()).hexdigest()[:20]


def gathered(
    model: FrozenModel,
    clips: Sequence[str],
    classes: Sequence[ClassName],
    features: Callable[[str], ClipFeatures],
    whole: Callable[[ClipFeatures], Window],
    *,
    before: Rows,
) -> Rows:
    """The rows of clips.

    Args:
        model: the frozen model.
        clips: N clips.
        classes: K classes.
        features: of a clip.
        whole: the window of a whole clip.
        before: rows that were made with the same model; ``NO_ROWS`` where there are none.
    """
    columns = tuple(class_id(one) for one in classes)
    known = {clip: row for row, clip in enumerate(before.clips)}
    places = {one: place for place, one in enumerate(before.classes)}
    old = [k for k, one in enumerate(columns) if one in places]
    new = [k for k, one in enumerate(columns) if one not in places]
    all_names = None if all(clip in known for clip in clips) else model.names(tuple(classes))
    new_names = model.names(tuple(classes[k] for k in new)) if new and known else None
    x: dict[str, list[Matrix]] = {m: [] for m in MODALITIES}
    frozen = np.empty((len(clips), len(columns)))
    for place, clip in enumerate(clips):
        row = known.get(clip)
        if row is not None:
            for modality in MODALITIES:
                x[modality].append(before.x[modality][row : row + 1])
            frozen[place, old] = before.frozen[row, [places[columns[k]] for k in old]]
            if new_names is not None:
                read = features(clip)
                frozen[place, new] = model.scores(read, [whole(read)], new_names).joint[0]
            continue
        assert all_names is not None
        read = features(clip)
        for modality, made in vectors(read, [whole(read)], model.backbone).items():
            x[modality].append(made)
        frozen[place] = model.scores(read, [whole(read)], all_names).joint[0]
    return Rows(tuple(clips), columns, {m: np.concatenate(made) for m, made in x.items()}, frozen)
