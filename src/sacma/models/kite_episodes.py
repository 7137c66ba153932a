"""Episodes within the training clips, and what KITE learns from them: weights of its scores, and the offset.

An episode hides some training classes and holds back some clips of the others; what is hidden has to be told
apart among all training classes: generalised zero-shot recognition in small. Clips of one group, such as
those of one recording, are held back together: else a held-back clip has a sibling among the training clips,
seen classes look easier than they are, and the offset comes out too small for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sacma.metrics.gzsl import harmonic_mean
from sacma.models.moments import first_of_each

OFFSETS = 241  # values of the offset that are tried, evenly spaced between the margins
WIDER = 1.5  # how much more the best offset of new classes varies than that of episodes, which share classes
HELD_BACK = 5  # one in so many clips of a class that is not hidden
ITERATIONS = 60
FIRST_SUM = 3.0  # of the score weights before they are learned, which they are drawn towards
FEW = 10  # classes; with more of them weights start from equal ones, with fewer from one robust score
FIRST_GATE = 0.05
TINY = 1e-12


class Episode(NamedTuple):
    """A partition of the training clips.

    Attributes:
        hidden: (k,) bool, the classes that play the unseen ones.
        training: (n,) bool, the clips to solve for.
        query: (n,) bool, the clips to tell apart: all of hidden classes, some of the others.
    """

    hidden: Tensor
    training: Tensor
    query: Tensor


class Asked(NamedTuple):
    """The q queries of an episode, scored against the k training classes.

    Attributes:
        scores: (q, k, J) J scores of a query and a class.
        gates: (q, k, G) what counts for classes that are not hidden, 0 for hidden ones.
        hidden: (k,) bool.
        labels: (q,) the class of each query.
    """

    scores: Tensor
    gates: Tensor
    hidden: Tensor
    labels: Tensor


def draw_episodes(
    labels: Tensor, classes: int, count: int, *, hide: int, groups: Tensor | None = None
) -> list[Episode]:
    """Draw episodes, every class hidden about as often; the same at each call.

    Args:
        labels: (n,) class of each training clip.
        classes: k.
        count: number of episodes.
        hide: classes that each of them hides.
        groups: (n,) clips of one number are held back together; None for each clip alone.
    """
    generator = torch.Generator().manual_seed(0)
    hidings: list[Tensor] = []
    while len(hidings) < count:
        order = torch.randperm(classes, generator=generator)
        hidings += [part for part in order.split(hide) if len(part) == hide]
    episodes = []
    for hiding in hidings[:count]:
        hidden = torch.zeros(classes, dtype=torch.bool)
        hidden[hiding] = True
        held_back = _held_back(labels, classes, generator, groups)
        of_hidden = hidden[labels]
        episodes.append(Episode(hidden, ~of_hidden & ~held_back, of_hidden | held_back))
    return episodes


def _held_back(labels: Tensor, classes: int, generator: torch.Generator, groups: Tensor | None) -> Tensor:
    """(n,) bool: a fifth of the clips, or groups, of each class, at least one, never all."""
    if groups is None:
        return _a_fifth(labels, classes, generator)
    pairs = torch.stack([labels, groups], dim=1)
    of_class, place = pairs.unique(dim=0, return_inverse=True)  # a group of two classes is two groups
    return _a_fifth(of_class[:, 0], classes, generator)[place]


def _a_fifth(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # class by class, at random within a class
    counts = torch.bincount(labels, minlength=classes)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    return rank < torch.minimum((counts / HELD_BACK).ceil(), (counts - 1).clamp(min=0))[labels]


def at_most(rows: Tensor, labels: Tensor, most: int) -> Tensor:
    """Of ``rows``, (m,) positions of clips, at most so many of each class; the same ones at each call."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    return rows[first_of_each(order, labels[rows], most)].sort().values


def shares(labels: Tensor, hidden: Tensor) -> Tensor:
    """(q,) float64: what each query adds to S or U; ``hidden`` (k,) says which classes count for U."""
    counts = torch.bincount(labels, minlength=len(hidden))
    asked = counts > 0
    classes = torch.where(hidden, (asked & hidden).sum(), (asked & ~hidden).sum())
    return 1 / (counts * classes).double()[labels]


def first_weights(used: Tensor, robust: int, classes: int) -> Tensor:
    """(J,) score weights to start from: equal ones, of few classes the robust score alone.

    Args:
        used: (J,) bool, the scores that take part.
        robust: position of the score that a few classes do best with.
        classes: k.
    """
    equal = FIRST_SUM * used.double() / used.sum().clamp(min=1)
    if not used[robust]:
        return equal
    share = min(1.0, (FEW / classes) ** 2)
    alone = torch.zeros_like(equal)
    alone[robust] = FIRST_SUM
    return (1 - share) * equal + share * alone


def learn(
    asked: Sequence[Asked], *, shrinkage: float, first: Tensor, use_scores: Tensor, use_gates: Tensor
) -> tuple[Tensor, Tensor]:
    """Learn the weights of scores and gates: a conditional logit over the queries of all episodes.

    The loss is the cross-entropy of a query's class among all classes plus half of that of hidden queries
    among hidden classes, all classes with equal weight, hidden and other classes alike. Weights cannot be
    negative, and are drawn towards first ones of the scores and none of the gates.

    Args:
        asked: the queries of each episode.
        shrinkage: how strongly they are drawn there.
        first: (J,) the first weights, of scores in units of their spread.
        use_scores: (J,) bool, the scores that take part.
        use_gates: (G,) bool, likewise.

    Returns:
        (J,) and (G,) weights of the scores and gates as they come, in float64.
    """
    used = torch.cat([use_scores, use_gates])
    spread = torch.cat([_spread(asked, "scores"), _spread(asked, "gates")])
    parts = [_part(one, spread[used], used) for one in asked]
    first = torch.cat([first.double(), torch.zeros(len(use_gates), dtype=torch.float64)])[used]
    logs = torch.where(first > 0, first, FIRST_GATE).log().requires_grad_()
    constant = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logs, constant], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        weights = logs.exp()
        value = shrinkage * (weights - first).square().sum()
        for part in parts:
            value = value + part.loss(weights, constant) / len(parts)
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    weights = torch.zeros(len(used), dtype=torch.float64)
    weights[used] = logs.detach().exp() / spread[used].double()
    return weights[: len(use_scores)], weights[len(use_scores) :]


class _Part(NamedTuple):
    """An episode laid out for the optimiser: ``columns`` (q * k, used)."""

    columns: Tensor
    hidden: Tensor
    labels: Tensor
    share: Tensor

    def loss(self, weights: Tensor, constant: Tensor) -> Tensor:
        found = (self.columns @ weights.float()).view(len(self.labels), -1)  # (q, k)
        found = found + constant.float() * ~self.hidden
        right = found.gather(1, self.labels[:, None]).squeeze(1)
        among_all = found.logsumexp(1) - right
        among_hidden = found.masked_fill(~self.hidden, -torch.inf).logsumexp(1) - right
        of_hidden = self.hidden[self.labels]
        return (self.share * (among_all + 0.5 * of_hidden * among_hidden)).sum()


def _part(one: Asked, spread: Tensor, used: Tensor) -> _Part:
    columns = torch.cat([one.scores, one.gates], dim=2)[:, :, used] / spread
    share = (shares(one.labels, one.hidden) / 2).float()
    return _Part(columns.flatten(0, 1), one.hidden, one.labels, share)


def _spread(asked: Sequence[Asked], kind: str) -> Tensor:
    """(J,) or (G,) standard deviation over queries and classes, the root of its mean square over episodes."""
    variances = []
    for one in asked:
        values = one.scores if kind == "scores" else one.gates[:, ~one.hidden]
        variances.append(values.flatten(0, 1).var(dim=0, correction=0))
    return torch.stack(variances).mean(0).sqrt().clamp(min=TINY)


def find_offset(asked: Sequence[Asked], scores: Tensor, gates: Tensor) -> float:
    """The offset of classes with training clips, from the harmonic means of the episodes.

    The best one differs from episode to episode, and new classes will have another one again. So it is that
    with the largest mean over the episodes and over a normal spread around it, as wide as theirs and half as
    much more: where harmonic means fall steeply on one side, it keeps away from there.
    """
    margins, seen_right, hidden_right = [], [], []
    for one in asked:
        found = one.scores @ scores.float() + one.gates @ gates.float()  # (q, k)
        share = shares(one.labels, one.hidden)
        at_hidden, answer = found.masked_fill(~one.hidden, -torch.inf).max(1)
        at_seen, seen_answer = found.masked_fill(one.hidden, -torch.inf).max(1)
        margins.append((at_seen - at_hidden).double())
        seen_right.append((seen_answer == one.labels) * share)
        hidden_right.append((answer == one.labels) * share)
    every = torch.cat(margins)
    taus = torch.linspace(float(every.min()) - 1, float(every.max()) + 1, OFFSETS, dtype=torch.float64)
    means = []
    for margin, seen, hidden in zip(margins, seen_right, hidden_right, strict=True):
        says_seen = (margin > taus[:, None]).double()  # (OFFSETS, q)
        means.append(harmonic_mean(says_seen @ seen, (1 - says_seen) @ hidden))
    found = torch.stack(means)  # (episodes, OFFSETS)
    spread = WIDER * taus[found.argmax(1)].std(correction=0).clamp(min=TINY)
    around = (-0.5 * ((taus[:, None] - taus) / spread).square()).exp()
    smooth = (around / around.sum(1, keepdim=True)) @ found.mean(0)
    return -float(taus[int(smooth.argmax())])
