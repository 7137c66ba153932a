"""Weights of examples and of the frozen score, and their accuracy, both from clips that are held back.

An episode holds one in ``HELD_BACK`` clips of each class back, at least one, of classes with two or more, and
asks for their names. The weights with the least cross-entropy over all episodes take the place of the
defaults where they are better by more than one standard error over clips; a few clips tell too little to
follow them everywhere. Where fewer than ``LEAST`` clips can be held back the defaults stay. Corrected clips
are never held back: the model was wrong about each of them, so they would turn the weights away from it.

For the figures each clip is asked for once, by a model that was taught the others alone and chose its weights
without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.scores import Matrix
from sacma.learn.shots import Shots, Weights, fused, together

HELD_BACK, LEAST, FOLDS = 5, 5, 5
EPISODES, ENOUGH = (3, 12), 600
"""Episodes at least and at most; no more than ask for so many clips."""
FROZEN, EXAMPLES = (0.0, 0.125, 0.25, 0.5, 1.0), (0.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0)
FEW = 30
"""Clips; figures of fewer say little."""
_MOST = 3000
"""Clips that weights are chosen on, at most."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """A share of clips that were named rightly.

    Attributes:
        right: how many.
        of: of how many.
        chance: the share that guessing would have.
    """

    right: int
    of: int
    chance: float

    @property
    def share(self) -> float:
        """0 to 1; NaN where nothing was asked."""
        return self.right / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share over clips, after Wilson (1927)."""
        if not self.of:
            return (0.0, 1.0)
        z = 1.959964
        middle = (self.share + z * z / (2 * self.of)) / (1 + z * z / self.of)
        half = z / (1 + z * z / self.of)
        half *= math.sqrt(self.share * (1 - self.share) / self.of + z * z / (4 * self.of**2))
        return (max(0.0, middle - half), min(1.0, middle + half))

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.share:.0f} % of {self.of} clips ({100 * low:.0f} to {100 * high:.0f} % at 95 % "
            f"confidence; chance {100 * self.chance:.0f} %)"
        )


def choose(
    x: Mapping[str, Matrix],
    frozen: Matrix,
    labels: Labels,
    classes: int,
    *,
    fair: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Weights:
    """Weights for taught clips.

    Args:
        x: modality -> (N, D) vectors.
        frozen: (N, K) frozen scores.
        labels: (N,) the class of each clip.
        classes: K.
        fair: (N,) clips that may be held back, by default all. Corrected ones were given because the model
            was wrong about them, so they say too little good of it.
        seed: of the episodes.
    """
    random = np.random.default_rng(seed)
    asked: list[Asked] = []
    pool = np.sort(random.permutation(len(labels))[:_MOST])
    fair = np.ones(len(labels), dtype=bool) if fair is None else fair
    for held in _episodes(labels[pool], fair[pool], random):
        rest, queries = pool[~held], pool[held]
        shots = Shots({m: rows[rest] for m, rows in x.items()}, labels[rest], classes)
        own = together(shots.scores({m: rows[queries] for m, rows in x.items()}))
        asked.append(Asked(queries, frozen[queries], own, shots.expected, labels[queries]))
    default = Weights()
    if not asked:
        return default
    default = replace(default, offset=_offset(asked))
    if sum(len(one.truth) for one in asked) < LEAST * len(asked):
        return default
    some_without = len(np.unique(labels)) < classes
    tried = [default] + [
        replace(default, frozen=a, examples=b)
        for a, b in product(FROZEN, EXAMPLES)
        if (a or b) and (a or not some_without)
    ]
    losses = np.array([_losses(asked, weights) for weights in tried])  # (G, clips)
    best = int(losses.mean(axis=1).argmin())
    gain = losses[0] - losses[best]
    error = gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return tried[best] if gain.mean() > error else default


def held_back_figures(
    x: Mapping[str, Matrix], frozen: Matrix, labels: Labels, classes: int, *, seed: int = 0
) -> dict[str, Share]:
    """Share of held-back clips that are named rightly: by the model, and by the frozen score alone.

    Clips whose class has no other clip are asked for by the frozen score alone, ``frozen, all clips``.
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(labels), -1)
    for k in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == k))
        if len(rows) > 1:
            fold[rows] = (np.arange(len(rows)) + random.integers(FOLDS)) % FOLDS
    right = {"model": 0, "examples": 0, "frozen": 0}
    for number in range(FOLDS):
        held = fold == number
        rest = ~held
        if not held.any():
            continue
        shots = Shots({m: rows[rest] for m, rows in x.items()}, labels[rest], classes)
        own = together(shots.scores({m: rows[held] for m, rows in x.items()}))
        weights = choose(
            {m: rows[rest] for m, rows in x.items()}, frozen[rest], labels[rest], classes, seed=seed
        )
        by = {
            "model": fused(frozen[held], own, shots.expected, weights),
            "examples": own,
            "frozen": frozen[held],
        }
        for name, scores in by.items():
            right[name] += int((scores.argmax(axis=1) == labels[held]).sum())
    asked, chance = int((fold >= 0).sum()), 1 / classes
    figures = {name: Share(count, asked, chance) for name, count in right.items()}
    figures["frozen, all clips"] = Share(int((frozen.argmax(axis=1) == labels).sum()), len(labels), chance)
    return figures


@dataclass(frozen=True)
class Asked:
    """Clips that an episode held back.

    Attributes:
        clips: (B,) their numbers.
        frozen: (B, K) frozen scores.
        own: (B, K) scores by the other clips.
        expected: (K,) see ``Shots``.
        truth: (B,) their classes.
    """

    clips: NDArray[np.int64]
    frozen: Matrix
    own: Matrix
    expected: Matrix
    truth: Labels


def _episodes(
    labels: Labels, fair: NDArray[np.bool_], random: np.random.Generator
) -> Iterator[NDArray[np.bool_]]:
    """Masks of the clips that each episode holds back; none where every class has one clip."""
    several = [k for k in np.unique(labels) if (labels == k).sum() > 1]
    members = [np.flatnonzero((labels == k) & fair) for k in several]
    members = [rows for rows in members if len(rows)]
    each = sum(max(1, len(rows) // HELD_BACK) for rows in members)
    for _ in range(int(np.clip(ENOUGH // each, *EPISODES)) if members else 0):
        held = np.zeros(len(labels), dtype=bool)
        for rows in members:
            held[random.permutation(rows)[: max(1, len(rows) // HELD_BACK)]] = True
        yield held


def _offset(asked: Sequence[Asked]) -> float:
    """Half-way between a clip's score with its own class and its largest one with another."""
    halves = []
    for one in asked:
        rows = np.arange(len(one.truth))
        others = np.where(one.expected > 0, one.own, -np.inf)
        others[rows, one.truth] = -np.inf
        most = others.max(axis=1, initial=-np.inf)
        halves.append((one.own[rows, one.truth] + np.where(np.isfinite(most), most, 0.0)) / 2)
    return float(np.concatenate(halves).mean())


def _losses(asked: Sequence[Asked], weights: Weights) -> Matrix:
    """Mean cross-entropy of each clip over the episodes that asked for it."""
    clips = np.concatenate([one.clips for one in asked])
    losses = []
    for one in asked:
        scores = fused(one.frozen, one.own, one.expected, weights)
        log_sum = np.logaddexp.reduce(scores, axis=1)
        losses.append(log_sum - scores[np.arange(len(one.truth)), one.truth])
    _, place = np.unique(clips, return_inverse=True)
    return np.asarray(np.bincount(place, np.concatenate(losses)) / np.bincount(place))
