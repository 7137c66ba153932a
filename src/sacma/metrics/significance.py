"""Whether two configurations differ by more than their seeds explain: a paired t-test, corrected for several.

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


def bootstrap(differences: Sequence[float], *, resamples: int = 10_000) -> tuple[float, float]:
    """The 95 % interval of the mean of paired differences: percentiles over resampled pairs, always the same.

    For pairs that differ by more than a seed, such as class splits: no distribution is assumed.
    """
    values = np.asarray(differences)
    rows = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for testing several differences at once; nan stays nan and does not count."""
    adjusted, largest = list(p_values), 0.0
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = largest
    return adjusted
