"""Labels of pretrained classifiers, in words: ImageNet's 1,000 and AudioSet's 521 in the order of YAMNet.

Each label has a name and, after it, kinds: broader names, the nearest first. ImageNet's kinds follow WordNet
3.0 (``data/WORDNET-LICENCE.txt``). A kind of at least two labels is a group and becomes an entry of its own,
so that "dog" is as good an entry as each of the 118 breeds.

A classifier's probabilities become evidence: how far an entry has come from its share among clips (0) to
certainty (1), on a logarithmic scale.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

_FLOOR = 0.01
"""Added to probabilities and shares: what lies far below it is alike."""
_USUAL_SHARE = 0.006
"""Share of an AudioSet label that has none in the table."""


@dataclass(frozen=True)
class Labels:
    """Labels and groups of labels.

    Attributes:
        names: of the L labels, then of the groups; N in all.
        kinds: the nearest kind of each entry, empty where there is none.
        groups: rows of the labels of each group.
        shares: (N,) how often an entry is true of a clip, roughly.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    shares: NDArray[np.float64]

    @property
    def count(self) -> int:
        """The number of labels, L, without the groups."""
        return len(self.names) - len(self.groups)

    @cached_property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """Texts that are encoded for each entry: its name, and its name with its kind."""
        pairs = zip(self.names, self.kinds, strict=True)
        return tuple((name, f"{name}, {kind}") if kind else (name,) for name, kind in pairs)

    def evidence(self, probability: NDArray[np.floating]) -> NDArray[np.float64]:
        """Evidence for each entry, (B, N): 0 at the entry's share, 1 at certainty.

        Args:
            probability: (B, L) of the labels; that of a group is the sum over its labels.
        """
        labels = np.asarray(probability, dtype=np.float64)
        sums = [labels[:, list(rows)].sum(axis=1) for rows in self.groups]
        p = np.column_stack([labels, *sums]) if sums else labels  # (B, N)
        share = self.shares + _FLOOR
        return np.asarray(np.log((p + _FLOOR) / share) / np.log((1 + _FLOOR) / share))


@lru_cache(maxsize=1)
def imagenet() -> Labels:
    """The labels of ImageNet's classifiers, with groups; one label is true of a picture."""
    rows = _read("imagenet.csv")
    names = [row["name"] for row in rows]
    kinds = [row["kinds"].split(";") if row["kinds"] else [] for row in rows]
    members: dict[str, list[int]] = defaultdict(list)
    for place, some in enumerate(kinds):
        for kind in some:
            members[kind].append(place)
    groups: dict[tuple[int, ...], str] = {}
    for kind, places in members.items():
        if len(places) > 1:  # of groups of the same labels the first, the narrowest, stays
            groups.setdefault(tuple(places), kind)
    sizes = np.array([1] * len(names) + [len(places) for places in groups])
    nearest = [some[0] if some else "" for some in kinds] + [""] * len(groups)
    return Labels((*names, *groups.values()), tuple(nearest), tuple(groups), sizes / len(names))


@lru_cache(maxsize=1)
def audioset() -> Labels:
    """The labels of YAMNet; several may be true of a sound. Shares are rounded from AudioSet's counts."""
    rows = _read("audioset.csv")
    shares = np.array([float(row["share"] or _USUAL_SHARE) for row in rows])
    return Labels(tuple(row["name"] for row in rows), tuple(row["kinds"] for row in rows), (), shares)


def _read(file: str) -> list[dict[str, str]]:
    text = (resources.files("sacma.frozen") / "data" / file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
