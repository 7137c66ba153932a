"""The course of a film: which name holds from when to when.

Cells of ``CELL`` seconds are named by a best path. With p(t, k) the probability of name k in cell t,

    sum over t of CELL log p(t, k_t)  -  sum of the price of each place where k changes

is made as large as possible (Viterbi, 1967). A change costs less where pictures and sound change too, as in
the cutting of pictures into parts (Boykov and Jolly, ICCV 2001):

    price(t) = dear (1 - z(t))
    z(t) = mean over modalities of d(t) / max(largest d of the film, LEAST)
    d(t) = 1 - cosine of the mean features of the LOOK seconds before t and after t

``dear``, in seconds, is one and a half windows, at most ``DEAREST``: where nothing else changes, a name with
e times the probability of its neighbours must hold for twice as long to be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.scores import mean_steps, rooted, unit
from sacma.media.backbones import Steps

CELL = 0.25
"""Seconds."""
DEAREST = 5.0
"""Seconds; on four joined films of 30 clips of 6 s, 3 to 5 s told boundaries best."""
LOOK = 1.5
"""Seconds; 1 to 3 s did as well on these films."""
LEAST = 0.6
"""Largest change of features, 0 to 2, that a film is taken to have at least: noise shall not be cheap."""


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


def prices(
    steps: Sequence[tuple[Steps, float, float]], parts: Sequence[tuple[float, float]], window: float
) -> NDArray[np.float64]:
    """(T,) the price of another name from each of T cells on; see the head of this file.

    Args:
        steps: the features of each modality that the film has, seconds from one step to the next, and seconds
            that a step looks at.
        parts: start and end of each cell.
        window: seconds of a window.
    """
    z = np.mean([_contrast(*some, parts) for some in steps], axis=0)
    return np.asarray(min(DEAREST, 1.5 * window) * (1 - z))


def _contrast(
    steps: Steps, step: float, looks: float, parts: Sequence[tuple[float, float]]
) -> NDArray[np.float64]:
    """(T,) how far the features change where a cell begins, 0 to 1."""
    edges = [begin for begin, _ in parts]
    values = unit(rooted(steps.values))
    before = mean_steps(values, step, [(max(0.0, edge - LOOK), edge) for edge in edges], looks=looks)
    after = mean_steps(values, step, [(edge, edge + LOOK) for edge in edges], looks=looks)
    changed = np.nan_to_num(1 - (unit(before) * unit(after)).sum(axis=1))
    return np.asarray(np.clip(changed, 0, None) / max(LEAST, float(changed.max())))


def best_path(probability: NDArray[np.floating], price: float | NDArray[np.floating]) -> NDArray[np.int64]:
    """(T,) the name of each cell, from (T, K) probabilities; see the head of this file.

    Rows of NaN, of cells with nothing to see or hear, speak for no name.

    Args:
        probability: of the names in each cell.
        price: of another name than before, in each cell or everywhere.
    """
    told = CELL * np.log(np.clip(np.nan_to_num(probability, nan=1.0), 1e-12, None))
    came = np.empty(told.shape, dtype=np.int64)
    names = np.arange(told.shape[1])
    score = np.zeros(told.shape[1])
    dear = np.broadcast_to(price, len(told))
    for row, here in enumerate(told):
        best = int(score.argmax())
        stays = score >= score[best] - dear[row]
        came[row] = np.where(stays, names, best)
        score = np.where(stays, score, score[best] - dear[row]) + here
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
