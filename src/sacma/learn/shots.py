"""Names from a few clips: a ridge regression on a frozen model's features, added to its own score.

For modality m, x_m is the mean over a window of the steps' rooted values, r(u) = sign(u) sqrt(|u|), at unit
length, less the mean mu_m of the class means, at unit length again. Of N clips of C classes, n_k of class k,

    W_m minimises  sum over i of w_i |x_im W - y_i|^2 + RIDGE |W|^2      w_i = N / (C n_k), k the class of i
    y_ik = 1 for the class of i, else 0, less 1 / C; 0 for a name without clips
    s(x, k) = mean over the modalities at hand of (x_m W_m)_k
    score(x, k) = a f(x, k) + b (s(x, k) - t e_k)       e_k = n_k / (n_k + 1) over its mean, 0 without clips

f is the frozen score. a and b are chosen by episodes, see ``choice``; t lies half-way between what a clip has
with its own class and the most it has with another. A class of few clips has less to make up for, by e_k.
What was taught itself keeps the name it was given.

Class means in place of the ridge named 2 to 4 of 100 clips less rightly on instruments, 1 to 2 less on
sounds with photographs, 7 to 27 less on objects in a robot's hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.scores import Matrix, Window, mean_steps, rooted, unit
from sacma.media.backbones import Backbone, looks
from sacma.media.extract import ClipFeatures

MODALITIES = ("audio", "video")
SAME = 1 - 1e-6
"""Cosine from which on a window is the taught clip itself."""
RIDGE = 0.3
"""0.1 to 1 did as well with two to ten clips a class, on three sets."""
_CERTAIN = 12.0
"""Logits that a taught clip's own name is ahead by."""


@dataclass(frozen=True)
class Weights:
    """Weights of the frozen score and of the examples; by default those that did best with one clip a class.

    Attributes:
        frozen: a.
        examples: b.
        offset: t.
    """

    frozen: float = 0.5
    examples: float = 15.0
    offset: float = 0.12


def vectors(features: ClipFeatures, windows: Sequence[Window], backbone: Backbone) -> dict[str, Matrix]:
    """Modality -> (B, D) unit means of rooted steps; rows of NaN where a window lacks the modality."""
    made = {}
    for modality in MODALITIES:
        encoder, steps = getattr(backbone, modality), getattr(features, modality)
        if steps is None:
            made[modality] = np.full((len(windows), encoder.width), np.nan)
            continue
        step = encoder.step_seconds or windows[-1][1]
        made[modality] = unit(mean_steps(rooted(steps.values), step, windows, looks=looks(encoder)))
    return made


class Shots:
    """A ridge regression on taught clips.

    Args:
        x: modality -> (N, D), see ``vectors``.
        labels: (N,) the class of each clip, 0 to K - 1.
        classes: K.
    """

    def __init__(self, x: Mapping[str, Matrix], labels: NDArray[np.int64], classes: int) -> None:
        self.labels, self.classes = labels, classes
        count = np.bincount(labels, minlength=classes)
        taught = int((count > 0).sum())
        self.expected = count / (count + 1)  # (K,) e_k
        if taught:
            self.expected /= self.expected[count > 0].mean()
        self._raw = dict(x)
        self._centre = {m: _centre(rows, labels) for m, rows in x.items()}
        wanted = np.eye(classes)[labels] - (count > 0) / max(taught, 2)  # (N, K) y; 1 / 2 for a single class
        weights = len(labels) / max(taught, 1) / count[labels]  # (N,) w
        self._solved = {
            m: _ridge(np.nan_to_num(self._centred(m, rows)), wanted, weights) for m, rows in x.items()
        }

    def scores(self, x: Mapping[str, Matrix]) -> dict[str, Matrix]:
        """Modality -> (B, K) s of windows; rows of NaN where a window lacks it."""
        return {m: self._centred(m, rows) @ self._solved[m] for m, rows in x.items()}

    def itself(self, x: Mapping[str, Matrix]) -> NDArray[np.int64]:
        """(B,) the class of the last taught clip that a window is, -1 where it is none."""
        least: Matrix | None = None
        for modality, rows in x.items():
            cosine = rows @ self._raw[modality].T  # (B, N)
            lacks = np.isnan(rows[:, :1]) & np.isnan(self._raw[modality][:, 0])[None]
            cosine = np.where(lacks, 1.0, np.nan_to_num(cosine, nan=-1.0))
            least = cosine if least is None else np.minimum(least, cosine)
        if least is None or not least.shape[1]:
            return np.full(len(next(iter(x.values()))), -1)
        same = least >= SAME
        last = same.shape[1] - 1 - same[:, ::-1].argmax(axis=1)
        return np.where(same.any(axis=1), self.labels[last], -1)

    def _centred(self, modality: str, rows: Matrix) -> Matrix:
        return unit(rows - self._centre[modality])


def together(alone: Mapping[str, Matrix]) -> Matrix:
    """(B, K) means over the modalities that each window has; 0 without any."""
    stacked = np.stack(list(alone.values()))
    there = ~np.isnan(stacked)
    return np.asarray(np.where(there, stacked, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))


def fused(frozen: Matrix, shots: Matrix, expected: Matrix, weights: Weights) -> Matrix:
    """(B, K) scores; see the head of this file.

    Args:
        frozen: (B, K) f.
        shots: (B, K) s.
        expected: (K,) e_k.
        weights: of both.
    """
    return weights.frozen * frozen + weights.examples * (shots - weights.offset * expected)


def certain(scores: Matrix, itself: NDArray[np.int64]) -> Matrix:
    """Scores in which the name of a window that was taught itself is far ahead of the others."""
    made = scores.copy()
    rows = np.flatnonzero(itself >= 0)
    made[rows, itself[rows]] = made[rows].max(axis=1) + _CERTAIN
    return made


def _ridge(rows: Matrix, wanted: Matrix, weights: Matrix) -> Matrix:
    """(D, K) solution for N rows, by the smaller of a system of N and one of D equations."""
    if len(rows) <= rows.shape[1]:
        gram = rows @ rows.T
        gram[np.diag_indices_from(gram)] += RIDGE / weights
        return np.asarray(rows.T @ np.linalg.solve(gram, wanted))
    weighted = rows.T * weights
    gram = weighted @ rows
    gram[np.diag_indices_from(gram)] += RIDGE
    return np.asarray(np.linalg.solve(gram, weighted @ wanted))


def _centre(rows: Matrix, labels: NDArray[np.int64]) -> Matrix:
    """(D,) mean of the class means; of a single class nothing."""
    there = ~np.isnan(rows[:, 0])
    known = np.unique(labels[there])
    if len(known) < 2:
        return np.zeros(rows.shape[1])
    return np.asarray(np.mean([rows[there & (labels == k)].mean(axis=0) for k in known], axis=0))
