"""The course of a film: which name holds from when to when.

Cells of ``CELL`` seconds are named by a best path. With p(t, k) the probability of name k in cell t,

    sum over t of CELL log p(t, k_t)  -  price x number of changes of k

is made as large as possible (Viterbi, 1967). The price, in seconds, is the length of a window, at most
``DEAREST``: a name with e times the probability of its neighbours must hold for twice as long to be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

CELL = 0.25
"""Seconds."""
DEAREST = 5.0
"""Seconds; on two joined films of 30 clips of 6 s, prices of 3 to 6 s told boundaries best."""


@dataclass(frozen=True)
class Segment:
    """A part of a clip with one name.

    Attributes:
        start: seconds from the beginning of the clip.
        end: seconds from the beginning of the clip.
        name: the name that holds.
        probability: its mean over the part.
        carried_by: the modality that gives the same name alone in most of the part, see ``Window``.
    """

    start: float
    end: float
    name: str
    probability: float
    carried_by: str | None = None


def cells(seconds: float) -> list[tuple[float, float]]:
    """Start and end of each cell of a clip."""
    edges = np.append(np.arange(0.0, max(seconds - CELL / 2, CELL / 2), CELL), seconds)
    return [(float(a), float(b)) for a, b in pairwise(edges)]


def best_path(probability: NDArray[np.floating], price: float) -> NDArray[np.int64]:
    """(T,) the name of each cell, from (T, K) probabilities; see the head of this file.

    Rows of NaN, of cells with nothing to see or hear, speak for no name.
    """
    told = CELL * np.log(np.clip(np.nan_to_num(probability, nan=1.0), 1e-12, None))
    came = np.empty(told.shape, dtype=np.int64)
    names = np.arange(told.shape[1])
    score = np.zeros(told.shape[1])
    for row, here in enumerate(told):
        best = int(score.argmax())
        stays = score >= score[best] - price
        came[row] = np.where(stays, names, best)
        score = np.where(stays, score, score[best] - price) + here
    path = [int(score.argmax())]
    for back in came[:0:-1]:
        path.append(int(back[path[-1]]))
    return np.array(path[::-1])


def segments(
    parts: Sequence[tuple[float, float]],
    path: Sequence[int],
    probability: NDArray[np.floating],
    alone: Mapping[str, NDArray[np.floating]],
    names: Sequence[str],
) -> tuple[Segment, ...]:
    """Neighbouring cells of one name as one segment.

    Args:
        parts: start and end of each of T cells.
        path: the name of each cell.
        probability: (T, K).
        alone: modality -> (T, K) of that modality alone, rows of NaN where a cell lacks it.
        names: K names.
    """
    told = []
    for place, rows in groupby(range(len(parts)), key=lambda row: int(path[row])):
        some = list(rows)
        agree = [m for m, own in alone.items() if _agrees(own[some], place)]
        there = [m for m, own in alone.items() if not np.isnan(own[some]).all()]
        carried = "both" if len(agree) > 1 else agree[0] if agree else "neither" if len(there) > 1 else None
        mean = float(np.nanmean(probability[some, place])) if there else 1 / len(names)
        told.append(Segment(parts[some[0]][0], parts[some[-1]][1], names[place], mean, carried))
    return tuple(told)


def _agrees(own: NDArray[np.floating], place: int) -> bool:
    """Most of the cells that have the modality name it so."""
    has = own[~np.isnan(own).any(axis=1)]
    return len(has) > 0 and float((has.argmax(axis=1) == place).mean()) > 0.5
