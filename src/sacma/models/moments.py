"""Statistics of training clips in one pass, and an even sample of them: memory does not grow with clips.

Rows are kept while there are no more of them than dimensions, as they take less room than second moments
then, and their axes are found faster. Products of some thousand rows are in float32, their sums in float64.
Rows may get wider on the way: columns that earlier rows did not have are 0 there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.models.kite_features import principal, principal_of

ROWS_AT_ONCE = 4096


class Statistics(NamedTuple):
    """Sums over n clips of k classes, in a space of r dimensions, float64.

    Attributes:
        counts: (k,) clips of each class.
        sums: (k, r) sums of the clips of each class.
        second: (r, r) sum of the clips' outer products.
    """

    counts: Tensor
    sums: Tensor
    second: Tensor

    @classmethod
    def none(cls, classes: int, width: int) -> Statistics:
        """Those of no clips."""
        shapes = (classes,), (classes, width), (width, width)
        return cls(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    @classmethod
    def of(cls, z: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Those of (n, r) clips."""
        total = cls.none(classes, z.shape[1])
        for rows, own in zip(z.split(ROWS_AT_ONCE), labels.split(ROWS_AT_ONCE), strict=True):
            total.take(rows, own)
        return total

    def take(self, z: Tensor, labels: Tensor) -> None:
        """Add (n, r) clips, in place."""
        self.counts.add_(torch.bincount(labels, minlength=len(self.counts)))
        self.sums.index_add_(0, labels, z.double())
        self.second.add_(z.T @ z)

    def grown(self, other: Statistics, place: Tensor, classes: int) -> Statistics:
        """With the clips of other classes as well, which come to the positions ``place`` among more."""
        more = classes - len(self.counts)
        counts, sums = F.pad(self.counts, (0, more)), F.pad(self.sums, (0, 0, 0, more))
        counts.index_add_(0, place, other.counts)
        sums.index_add_(0, place, other.sums)
        return Statistics(counts, sums, self.second + other.second)

    def widened(self, width: int) -> Statistics:
        """The same clips in a space of more dimensions, where they are 0."""
        more = width - self.sums.shape[1]
        return Statistics(self.counts, F.pad(self.sums, (0, more)), F.pad(self.second, (0, more, 0, more)))

    def among(self, known: Tensor) -> Statistics:
        """Those of some of the classes, at positions (k',), which have all clips."""
        return Statistics(self.counts[known], self.sums[known], self.second)

    def along(self, basis: Tensor) -> Statistics:
        """The same clips along (r, r') axes."""
        basis = basis.double()
        return Statistics(self.counts, self.sums @ basis, basis.T @ self.second @ basis)


class Moments:
    """Statistics of clips that come some at a time; nothing is kept of many of them.

    Args:
        classes: number of candidates, which the labels are positions among.
    """

    def __init__(self, classes: int) -> None:
        self.clips, self.width = 0, 0
        self._classes = classes
        self._rows: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._waiting = 0
        self._total: Statistics | None = None

    def add(self, x: Tensor, labels: Tensor) -> None:
        """Take (B, d) clips with (B,) labels; ``d`` may be larger than before."""
        self.width = max(self.width, x.shape[1])
        self._rows.append(x)
        self._labels.append(labels)
        self.clips += len(x)
        self._waiting += len(x)
        if self._waiting >= ROWS_AT_ONCE and self.clips > self.width:
            self._sum_up()

    def axes(self, rank: int) -> Tensor:
        """(d, r) the directions of the clips, the ``rank`` principal ones where there are more, float64."""
        if self.clips <= self.width:
            return principal(self._joined()[0], rank)
        total = self.statistics()
        return principal_of(total.second, total.sums.sum(0) / self.clips, self.clips, rank)

    def along(self, basis: Tensor) -> Statistics:
        """Statistics along (d, r) axes."""
        if self.clips <= self.width:
            rows, labels = self._joined()
            return Statistics.of(rows @ basis.to(rows), labels, self._classes)
        return self.statistics().along(basis)

    def statistics(self) -> Statistics:
        """Statistics of all clips so far, in the space that they are in."""
        self._sum_up()
        assert self._total is not None
        return self._total.widened(self.width)

    @property
    def checksum(self) -> Tensor:
        """(classes + 1, d): sums of each class and of squares; other clips have others."""
        rows, labels = self._joined()
        total = Statistics.none(self._classes, self.width)
        sums = total.sums if self._total is None else self._total.widened(self.width).sums.clone()
        squares = total.second.diagonal() if self._total is None else self._total.second.diagonal()
        sums.index_add_(0, labels, rows.double())
        squares = F.pad(squares, (0, self.width - len(squares))) + rows.double().square().sum(0)
        return torch.cat([sums, squares[None]])

    def _sum_up(self) -> None:
        rows, labels = self._joined()
        before = self._total or Statistics.none(self._classes, self.width)
        self._total = before.widened(self.width) if before.sums.shape[1] < self.width else before
        for x, own in zip(rows.split(ROWS_AT_ONCE), labels.split(ROWS_AT_ONCE), strict=True):
            self._total.take(x, own)
        self._rows, self._labels, self._waiting = [], [], 0

    def _joined(self) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.zeros(0, dtype=torch.long), *self._labels])
        return joined(self._rows, self.width), labels


class Sample:
    """An even sample of clips that come some at a time: at most so many of each class.

    The same clips are chosen however they are split into batches.

    Args:
        most: clips of a class.
        start: number of the first clip.
    """

    def __init__(self, most: int, *, start: int = 0) -> None:
        self.most, self.seen = most, start
        self._rows: list[Tensor] = []
        self._facts = torch.zeros(3, 0, dtype=torch.long)
        self._pruned = 0

    def add(self, x: Tensor, labels: Tensor, groups: Tensor | None = None) -> None:
        """Take (B, d) clips with (B,) labels and, where known, (B,) groups; -1 is a clip without one."""
        numbers = torch.arange(self.seen, self.seen + len(labels))
        self.seen += len(labels)
        own = torch.full_like(labels, -1) if groups is None else groups
        self._rows.append(x)
        self._facts = torch.cat([self._facts, torch.stack([labels, own, numbers])], dim=1)
        if self._facts.shape[1] > max(2 * self._pruned, ROWS_AT_ONCE):
            self._prune()

    @property
    def rows(self) -> Tensor:
        """(m, d) the clips, in the order in which they came."""
        self._prune()
        return self._rows[0]

    @property
    def labels(self) -> Tensor:
        """(m,) their labels."""
        self._prune()
        return self._facts[0]

    @property
    def groups(self) -> Tensor | None:
        """(m,) their groups, a clip without one as a group of its own; None where no clip has one."""
        self._prune()
        groups = self._facts[1]
        if not (groups >= 0).any():
            return None
        return torch.where(groups < 0, groups.max() + 1 + torch.arange(len(groups)), groups)

    @property
    def numbers(self) -> Tensor:
        """(m,) their numbers, counted from ``start``."""
        self._prune()
        return self._facts[2]

    def _prune(self) -> None:
        rows = joined(self._rows, max((x.shape[1] for x in self._rows), default=0))
        labels, _, numbers = self._facts
        kept = first_of_each(_mixed(numbers).argsort(), labels, self.most)
        if len(kept) < len(rows):
            rows, self._facts = rows[kept], self._facts[:, kept]
        self._rows, self._pruned = [rows], len(rows)


def first_of_each(order: Tensor, labels: Tensor, most: int) -> Tensor:
    """Of positions (m,) in an order, the first ``most`` of each class, in ascending order."""
    order = order[labels[order].argsort(stable=True)]
    _, counts = labels[order].unique_consecutive(return_counts=True)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[torch.arange(len(order)) - first < most].sort().values


def joined(rows: list[Tensor], width: int) -> Tensor:
    """Rows (n, width) one after another; narrower ones get zeros."""
    if not rows:
        return torch.zeros(0, width)
    if len(rows) == 1 and rows[0].shape[1] == width:
        return rows[0]
    return torch.cat([F.pad(x, (0, width - x.shape[1])) if x.shape[1] < width else x for x in rows])


def _mixed(numbers: Tensor) -> Tensor:
    """Numbers that look random, a bijection: multiplications modulo 2^64 and shifts, as in splitmix64."""
    mixed = numbers * -7046029254386353131
    mixed = (mixed ^ (mixed >> 30)) * -4658895280553007687
    return (mixed ^ (mixed >> 27)) * -7723592293110705685
