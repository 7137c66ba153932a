"""Significance of differences between two configurations over seeds: a paired t-test with Holm's correction.

Runs with the same seed are a pair. With five pairs, usual here, no rank test can get below p = 0.06, so the
test is Student's, which takes the differences to be normal. It speaks of seeds alone: that other test clips
would show the same difference is not tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sacma.errors import requires

LEAST_PAIRS = 3
LEAST_DRAWS = 5


@dataclass(frozen=True)
class Paired:
    """A comparison over the seeds that both have.

    Attributes:
        pairs: how many.
        difference: mean of ours less theirs; nan without a pair.
        low: lower end of the 95 % confidence interval of the difference; nan where there are too few pairs.
        high: its upper end.
        p: two-sided; nan where there are too few pairs, or all differ by the same.
    """

    pairs: int
    difference: float
    low: float
    high: float
    p: float


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired:
    """Compare values by seed; at least ``LEAST_PAIRS`` pairs are tested.

    Raises:
        SacmaError: scipy is not installed.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    mean = sum(differences) / len(seeds) if seeds else math.nan
    if len(seeds) < LEAST_PAIRS or max(differences) - min(differences) < 1e-12:
        return Paired(len(seeds), mean, math.nan, math.nan, math.nan)
    with requires("report", "the comparison needs scipy"):
        from scipy.stats import ttest_rel  # type: ignore[import-untyped]
    test = ttest_rel([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    interval = test.confidence_interval(0.95)
    return Paired(len(seeds), mean, float(interval.low), float(interval.high), float(test.pvalue))


def mean_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean of paired differences; nan below ``LEAST_DRAWS`` of them.

    For pairs that differ by more than a seed, such as class splits. In a simulation
    (``docs/explanation/intervals.md``) it covers the mean 93 to 96 times in 100 where differences are
    about symmetric, 88 to 92 times where they are as skewed as an exponential distribution; bootstraps
    cover it less often.

    Raises:
        SacmaError: scipy is not installed.
    """
    if len(differences) < LEAST_DRAWS:
        return math.nan, math.nan
    with requires("report", "intervals need scipy"):
        from scipy.stats import t
    values = np.asarray(differences)
    half = float(t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for several tests by Holm's method; nan stays nan and does not count."""
    adjusted, largest = list(p_values), 0.0
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = largest
    return adjusted
