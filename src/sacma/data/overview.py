"""Overview of a benchmark before training: clips, classes, chance, and the differences that test can show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sacma.data.benchmark import Benchmark
from sacma.metrics.gzsl import NORMAL_95

TOO_WIDE = 0.1
"""Half an interval from which on a test set is said to be small."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Sizes of a benchmark, and what they mean for its figures.

    Attributes:
        clips: stage -> its number of clips.
        classes: stage -> numbers of seen and of unseen candidates.
        widths: S, U and ZSL -> half the 95 % interval over test clips, as a fraction, at the least certain
            accuracy of 50 %.
    """

    clips: Mapping[str, int]
    classes: Mapping[str, tuple[int, int]]
    widths: Mapping[str, float]

    @classmethod
    def of(cls, benchmark: Benchmark) -> Overview:
        """Count the clips of train, val and test.

        Raises:
            SacmaError: a class of a stage has no clip.
        """
        splits = {stage: benchmark.split(stage) for stage in ("train", "val", "test")}
        seen = {stage: int(split.classes.seen.sum()) for stage, split in splits.items()}
        test = splits["test"]
        counts = torch.bincount(test.labels, minlength=len(test.classes))
        S, U = (half_width(counts[mask]) for mask in (test.classes.seen, ~test.classes.seen))
        return cls(
            clips={stage: len(split) for stage, split in splits.items()},
            classes={
                stage: (seen[stage], len(split.classes) - seen[stage]) for stage, split in splits.items()
            },
            widths={"S": S, "U": U, "ZSL": U},
        )

    @property
    def chance(self) -> Mapping[str, float]:
        """S, U, HM and ZSL of random answers on test, as fractions."""
        return chance(*self.classes["test"])

    def lines(self) -> list[str]:
        """Sentences for the person who trains; the last one warns where test is small."""
        parts = []
        for stage, count in self.clips.items():
            seen, unseen = self.classes[stage]
            parts.append(f"{stage} {count:,} of {seen} seen" + (f" and {unseen} unseen" if unseen else ""))
        by_chance = ", ".join(f"{name} {100 * value:.1f}" for name, value in self.chance.items())
        widths = ", ".join(f"{name} ± {100 * value:.1f}" for name, value in self.widths.items())
        lines = [
            f"clips: {'; '.join(parts)} classes",
            f"chance: {by_chance}; 95 % interval over test clips, at most: {widths}",
        ]
        widest = max(self.widths.values())
        if widest >= TOO_WIDE:
            lines.append(
                f"warning: test is small: a difference below about {100 * math.sqrt(2) * widest:.0f} points "
                "between two methods tells nothing; add clips, or compare over draws (sacma draws)"
            )
        return lines


def chance(seen: int, unseen: int) -> dict[str, float]:
    """S, U, HM and ZSL of answers drawn at random from the candidates, as fractions.

    Args:
        seen: number of seen candidates.
        unseen: number of unseen ones.

    Example:
        >>> chance(3, 2)
        {'S': 0.2, 'U': 0.2, 'HM': 0.2, 'ZSL': 0.5}
    """
    among_all = 1 / (seen + unseen)
    return {"S": among_all, "U": among_all, "HM": among_all, "ZSL": 1 / unseen if unseen else math.nan}


def half_width(counts: Tensor) -> float:
    """Half the 95 % interval of a mean over classes of accuracies of 50 %, over the choice of clips.

    Args:
        counts: (K,) clips of each class; classes without any are left out.

    Example:
        >>> round(half_width(torch.tensor([100, 100])), 3)
        0.069
    """
    kept = counts[counts > 0].double()
    return NORMAL_95 * math.sqrt(float((0.25 / kept).sum())) / len(kept) if len(kept) else math.nan
