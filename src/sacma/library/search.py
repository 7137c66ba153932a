"""Search in a library: moments by text, by an example clip or sound, or by both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.library.arrays import LARGE, Arrays
from sacma.library.opened import MODALITIES, Opened, status_of
from sacma.library.queries import Query, fits_from, like_query, text_query
from sacma.library.store import Entry, Store, consistent
from sacma.media.decode import LIMITS, Limits

_FIRST = 1024
"""Windows that are looked through for moments first; more where these are not enough."""


NOTHING_FITS = (
    "nothing fits well: all that is seen and heard speaks against it; the nearest moments are shown"
)


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


class Found(list[Moment]):
    """Moments that were found, the best first.

    Args:
        moments: the moments.
        fits: whether any of them fits; None where the model cannot tell, as for examples.
    """

    def __init__(self, moments: Iterable[Moment] = (), *, fits: bool | None = None) -> None:
        super().__init__(moments)
        self.fits = fits

    @property
    def note(self) -> str:
        """Remark where nothing fits; else empty."""
        return "" if self.fits is not False else NOTHING_FITS


class Library(Opened):
    """An open library of clips; make one with ``sacma index``.

    Args:
        store: its file.
        limits: what an example that is searched by may ask of us.

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
    ) -> Found:
        """The moments that fit best, the best first; ``fits`` of the answer says whether any does.

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
        with consistent(self.path):
            return self._found(text, like, top=top, modality=modality, each=each)

    def _found(
        self, text: str | None, like: str | Path | None, *, top: int, modality: str | None, each: int
    ) -> Found:
        queries: list[Query] = []
        but = None
        if text is not None and text.strip():
            queries.append(text_query(self, text, modality))
        if like is not None:
            but = self.entry_of(like)
            queries.append(like_query(self, like, modality, but))
        arrays = self.arrays()
        count = max(_FIRST, 16 * top)
        found = [query(None) for query in queries]
        scales = [_scale(one) for one in found] if len(found) > 1 else [(0.0, 1.0)]
        scores = _combined(found, scales)
        scores[~arrays.moments | np.isnan(scores)] = -np.inf
        while True:
            rows = largest(scores, count)
            exact = scores[rows]
            if len(scores) >= LARGE:  # they were rough
                again = _combined([query(rows) for query in queries], scales)
                exact = np.where(exact == -np.inf, exact, again)
            order = np.argsort(-exact, kind="stable")
            moments = self._apart(arrays, rows[order], exact[order], top=top, each=each, but=but)
            if len(moments) == top or count >= len(scores):
                least = None if like is not None else fits_from(self)
                return Found(moments, fits=None if least is None else any(m.score >= least for m in moments))
            count *= 8

    def _apart(
        self,
        arrays: Arrays,
        rows: NDArray[np.int64],
        scores: NDArray[np.floating],
        *,
        top: int,
        each: int,
        but: Entry | None,
    ) -> list[Moment]:
        """The first windows, best first, that do not overlap and of which no clip has more than ``each``."""
        taken: dict[int, list[tuple[float, float]]] = {}
        moments: list[Moment] = []
        for row, score in zip(rows, scores.tolist(), strict=True):
            clip, (start, end, _) = int(arrays.clips[row]), arrays.windows[row].tolist()
            others = taken.setdefault(clip, [])
            if score == -math.inf or (but is not None and clip == but.id) or len(others) == each:
                continue
            if any(start < last and first < end for first, last in others):
                continue
            others.append((start, end))
            entry = self.entry(clip)
            offset = entry.start or 0.0
            facts = (entry.class_name, status_of(entry))
            moments.append(Moment(str(entry.path), offset + start, offset + end, score, *facts))
            if len(moments) == top:
                break
        return moments


def open_library(path: str | Path, *, limits: Limits = LIMITS) -> Library:
    """Open a library of clips that ``sacma index`` made.

    Args:
        path: its folder.
        limits: what an example that is searched by may ask of us.

    Raises:
        SacmaError: there is none, it is damaged, or another version wrote it.
    """
    return Library(Store.open(Path(path)), limits=limits)


def largest(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Places of the ``count`` largest scores, in order of place."""
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.sort(np.argpartition(scores, len(scores) - count)[-count:])


def _scale(scores: NDArray[np.floating]) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(np.nanmean(scores)), max(float(np.nanstd(scores)), 1e-12)


def _combined(
    found: Sequence[NDArray[np.float32]], scales: Sequence[tuple[float, float]]
) -> NDArray[np.float32]:
    """Means of scores by several queries, each with its mean taken off and over its deviation."""
    parts = [(one - np.float32(m)) / np.float32(d) for one, (m, d) in zip(found, scales, strict=True)]
    return parts[0] if len(parts) == 1 else np.mean(parts, axis=0, dtype=np.float32)
