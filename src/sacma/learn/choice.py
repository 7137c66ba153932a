"""Weights of examples and of the frozen score, and their accuracy, both from clips that are held back.

An episode holds one in ``HELD_BACK`` clips of each class back, at least one, of classes with two or more, and
asks for their names. Weights are those with the least cross-entropy over all episodes; where fewer than
``LEAST`` clips can be held back they are the defaults, which did well in episodes of one clip a class.

For the figures each clip is asked for once, by a model that was taught the others alone and chose its weights
without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.scores import Matrix
from sacma.learn.shots import Shots, Weights, fused, together

HELD_BACK, EPISODES, LEAST, FOLDS = 5, 12, 5, 5
FROZEN, EXAMPLES = (0.0, 0.25, 0.5, 1.0), (0.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)
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
    x: Mapping[str, Matrix], frozen: Matrix, labels: Labels, classes: int, *, seed: int = 0
) -> Weights:
    """Weights for taught clips.

    Args:
        x: modality -> (N, D) vectors.
        frozen: (N, K) frozen scores.
        labels: (N,) the class of each clip.
        classes: K.
        seed: of the episodes.
    """
    random = np.random.default_rng(seed)
    asked: list[tuple[Matrix, Matrix, Matrix, Labels]] = []
    pool = np.sort(random.permutation(len(labels))[:_MOST])
    for held in _episodes(labels[pool], random):
        rest, queries = pool[~held], pool[held]
        shots = Shots({m: rows[rest] for m, rows in x.items()}, labels[rest], classes)
        own = together(shots.scores({m: rows[queries] for m, rows in x.items()}))
        asked.append((frozen[queries], own, shots.expected, labels[queries]))
    default = Weights()
    if not asked:
        return default
    offset = _offset(asked)
    if sum(len(truth) for *_, truth in asked) < LEAST * len(asked):
        return Weights(default.frozen, default.examples, offset)
    some_without = len(np.unique(labels)) < classes
    tried = [
        Weights(a, b, offset) for a, b in product(FROZEN, EXAMPLES) if (a or b) and (a or not some_without)
    ]
    losses = [_loss(asked, weights) for weights in tried]
    return tried[int(np.argmin(losses))]


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


def _episodes(labels: Labels, random: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Masks of the clips that each episode holds back; none where every class has one clip."""
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    members = [rows for rows in members if len(rows) > 1]
    for _ in range(EPISODES if members else 0):
        held = np.zeros(len(labels), dtype=bool)
        for rows in members:
            held[random.permutation(rows)[: max(1, len(rows) // HELD_BACK)]] = True
        yield held


def _offset(asked: list[tuple[Matrix, Matrix, Matrix, Labels]]) -> float:
    """Half-way between a clip's score with its own class and its largest one with another."""
    halves = []
    for _, own, expected, truth in asked:
        others = np.where(expected > 0, own, -np.inf)
        mine = own[np.arange(len(truth)), truth]
        others[np.arange(len(truth)), truth] = -np.inf
        most = others.max(axis=1, initial=-np.inf)
        halves.append((mine + np.where(np.isfinite(most), most, 0.0)) / 2)
    return float(np.concatenate(halves).mean())


def _loss(asked: list[tuple[Matrix, Matrix, Matrix, Labels]], weights: Weights) -> float:
    """Mean cross-entropy of the queries."""
    total = count = 0.0
    for frozen, own, expected, truth in asked:
        scores = fused(frozen, own, expected, weights)
        scores = scores - scores.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(scores).sum(axis=1))
        total += float((log_sum - scores[np.arange(len(truth)), truth]).sum())
        count += len(truth)
    return total / count
