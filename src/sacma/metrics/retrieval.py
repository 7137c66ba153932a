"""Retrieval: class names to clips, and clips to class names, as CJME reports it (Parida et al., WACV 2020).

The average precision of a query is the mean, over its right items, of the precision at the place of each:
AP = sum over i of (R_i - R_(i-1)) P_i, where items at equal distance count as found at once. The recall at k
is the share of queries with a right item among the first k; of items at equal distance the wrong ones come
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """Means over queries.

    Attributes:
        mean_average_precision: as a fraction; 0 without queries.
        recall: k -> recall at k, as a fraction.
        queries: how many there were.
    """

    mean_average_precision: float
    recall: dict[int, float]
    queries: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def average_precision(distances: Tensor, right: Tensor) -> float:
    """Average precision of a query.

    Args:
        distances: (N,) of the items, smaller is nearer.
        right: (N,) bool, at least one True.

    >>> average_precision(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([True, False, True]))
    0.8333333333333333
    """
    order = distances.argsort()
    ordered, hits = distances[order], right[order].double().cumsum(0)
    last = torch.ones_like(right)  # of those at equal distance
    last[:-1] = ordered[1:] != ordered[:-1]
    hits, places = hits[last], last.nonzero().squeeze(1) + 1
    gained = torch.diff(hits, prepend=hits.new_zeros(1))
    return float((gained * hits / places).sum() / hits[-1])


def retrieval(distances: Tensor, right: Tensor, ranks: Sequence[int] = RANKS) -> Retrieval:
    """Means over queries with at least one right item; others are left out.

    Args:
        distances: (Q, N) of N items to Q queries.
        right: (Q, N) bool.
        ranks: the k of recall at k.
    """
    rows = right.any(dim=1).nonzero().squeeze(1).tolist()
    count = max(1, len(rows))
    precise = sum(average_precision(distances[row], right[row]) for row in rows) / count
    nearest = distances.masked_fill(~right, torch.inf).amin(dim=1, keepdim=True)
    before = ((distances <= nearest) & ~right).sum(dim=1)[rows]  # wrong items up to the first right one
    recall = {k: float((before < k).sum()) / count for k in ranks}
    return Retrieval(precise, recall, len(rows))


def both_ways(distances: Tensor, labels: Tensor, seen: Tensor, *, bias: float = 0.0) -> dict[str, Retrieval]:
    """Retrieval over test clips by name of the direction and of the queries.

    ``names to clips, seen`` and ``unseen`` look for the clips of a class among all clips, ``unseen alone``
    among those of unseen classes. ``clips to names`` looks for the name of a clip among all names, ``clips to
    unseen names`` for that of a clip of an unseen class among the unseen ones.

    Args:
        distances: (N, K) of N clips to K classes.
        labels: (N,) positions of their classes.
        seen: (K,) the classes that were trained on.
        bias: added to the distances of seen classes, where names are ranked.
    """
    right = labels[:, None] == torch.arange(len(seen))  # (N, K)
    unseen_clips = ~seen[labels]
    few, few_right = distances[unseen_clips][:, ~seen], right[unseen_clips][:, ~seen]
    return {
        "names to clips, seen": retrieval(distances.T[seen], right.T[seen]),
        "names to clips, unseen": retrieval(distances.T[~seen], right.T[~seen]),
        "names to clips, unseen alone": retrieval(few.T, few_right.T),
        "clips to names": retrieval(distances + bias * seen, right),
        "clips to unseen names": retrieval(few, few_right),
    }
