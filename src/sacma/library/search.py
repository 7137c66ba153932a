"""Search in a library: moments by text, by an example clip or sound, or by both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.library.arrays import WHOLE, Arrays
from sacma.library.opened import MODALITIES, Opened, status_of
from sacma.library.queries import like_scores, text_scores
from sacma.library.store import Entry, Store

_FIRST = 1024
"""Windows that are looked through for moments first; more where these are not enough."""


@dataclass(frozen=True)
class Moment:
    """A part of a clip that was found.

    Attributes:
        clip: the file.
        start: seconds from the beginning of the file.
        end: seconds from the beginning of the file.
        score: larger is better; of one search they can be compared.
        class_name: by the clip's folder or table.
        status: empty, ``gone`` where the file is no longer there, or ``changed`` since it was indexed.
    """

    clip: str
    start: float
    end: float
    score: float
    class_name: str
    status: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


class Library(Opened):
    """An open library of clips; make one with ``sacma index``.

    Args:
        store: its file.

    Example:
        >>> library = sacma.open_library("clips.library")  # doctest: +SKIP
        >>> library.search("dog barking in the rain")[0].clip  # doctest: +SKIP
        '/home/ann/clips/garden.mp4'
    """

    def search(
        self,
        text: str | None = None,
        *,
        like: str | Path | None = None,
        top: int = 20,
        modality: str | None = None,
        each: int = 1,
    ) -> list[Moment]:
        """The moments that fit best, the best first.

        Args:
            text: what is looked for, in words.
            like: a clip or sound that is looked like; with ``text``, both count alike.
            top: how many moments at most.
            modality: ``audio`` or ``video`` to go by sound or pictures alone.
            each: how many moments of a clip at most; they do not overlap.

        Raises:
            SacmaError: nothing to look for, a number is out of range, the example cannot be read, or the
                library's model cannot answer.
        """
        if (text is None or not text.strip()) and like is None:
            raise SacmaError("nothing to look for; give a text, or a clip with --like")
        if top < 1 or each < 1:
            raise SacmaError(f"top {top} and {each} of each clip; both must be at least 1")
        if modality not in (None, *MODALITIES):
            raise SacmaError(f"modality {modality}; expected {' or '.join(MODALITIES)}")
        if not self.clips:
            raise SacmaError(
                f"{self.path}: no clips in it; add some with: sacma index CLIPS --out {self.path}"
            )
        found, but = [], None
        if text is not None and text.strip():
            found.append(text_scores(self, text, modality))
        if like is not None:
            but = self.entry_of(like)
            found.append(like_scores(self, like, modality, but))
        scores = found[0] if len(found) == 1 else np.mean([_standardised(one) for one in found], axis=0)
        return self._moments(self.arrays(), scores, top=top, each=each, but=but)

    def _moments(
        self, arrays: Arrays, scores: NDArray[np.floating], *, top: int, each: int, but: Entry | None
    ) -> list[Moment]:
        usable = np.flatnonzero((arrays.windows[:, 2] != WHOLE) & ~np.isnan(scores))
        count = max(_FIRST, 8 * top)
        while True:
            best = _largest(scores[usable], count)
            moments = self._apart(arrays, scores, usable[best], top, each, but)
            if len(moments) == top or count >= len(usable):
                return moments
            count *= 8

    def _apart(
        self,
        arrays: Arrays,
        scores: NDArray[np.floating],
        rows: NDArray[np.int64],
        top: int,
        each: int,
        but: Entry | None,
    ) -> list[Moment]:
        taken: dict[int, list[tuple[float, float]]] = {}
        moments: list[Moment] = []
        for row in rows:
            clip, (start, end, _) = int(arrays.clips[row]), arrays.windows[row].tolist()
            others = taken.setdefault(clip, [])
            if (but is not None and clip == but.id) or len(others) == each:
                continue
            if any(start < last and first < end for first, last in others):
                continue
            others.append((start, end))
            entry = self.entry(clip)
            offset = entry.start or 0.0
            facts = (entry.class_name, status_of(entry))
            moments.append(Moment(str(entry.path), offset + start, offset + end, float(scores[row]), *facts))
            if len(moments) == top:
                break
        return moments


def open_library(path: str | Path) -> Library:
    """Open a library of clips that ``sacma index`` made.

    Args:
        path: its folder.

    Raises:
        SacmaError: there is none, it is damaged, or another version wrote it.
    """
    return Library(Store.open(Path(path)))


def _largest(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Places of the ``count`` largest scores, the largest first."""
    if len(scores) > count:
        places = np.argpartition(-scores, count)[:count]
        return places[np.argsort(-scores[places], kind="stable")]
    return np.argsort(-scores, kind="stable")


def _standardised(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scores with mean 0 and deviation 1."""
    return np.asarray((scores - np.nanmean(scores)) / max(float(np.nanstd(scores)), 1e-12))
