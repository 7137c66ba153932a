"""How often 95 % intervals of a mean difference hold the true one: paired t, BCa, percentile bootstrap.

    python docs/results/interval_coverage.py

Each row simulates many studies of ``n`` paired differences from a distribution whose mean is known, and
prints as a Markdown table the share of intervals that contain it, with the median width of BCa's interval as
a share of t's. The second table has differences as draws of class splits give them: each of 89 classes has
its own, drawn once a study, and a draw is the mean over 16 of them plus noise of the clips. Its columns tell
apart what the interval is of: the mean over all splits of these 89 classes, and the mean over all classes
that could have been collected, which no number of draws of the same classes settles.

Takes a minute on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 1_000
CLASSES, TESTED = 89, 16

# Distribution -> how to draw an array of a shape, and its mean.
DISTRIBUTIONS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], Array], float]] = {
    "normal": (lambda random, shape: random.normal(size=shape), 0.0),
    "uniform": (lambda random, shape: random.uniform(size=shape), 0.5),
    "Student's t, 3 degrees": (lambda random, shape: random.standard_t(3, size=shape), 0.0),
    "exponential": (lambda random, shape: random.exponential(size=shape), 1.0),
}


def t_interval(values: Array) -> tuple[Array, Array]:
    """(studies,) lower and upper ends for values (studies, n)."""
    n = values.shape[1]
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(axis=1, ddof=1) / np.sqrt(n)
    return values.mean(axis=1) - half, values.mean(axis=1) + half


def bootstrap_intervals(
    values: Array, random: np.random.Generator
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """BCa's and the percentile interval (Efron and Tibshirani, 1993, chapter 14), for values (studies, n)."""
    n = values.shape[1]
    rows = random.integers(0, n, (RESAMPLES, n))
    means = np.stack([study[rows].mean(axis=1) for study in values])  # (studies, RESAMPLES)
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below = (means < values.mean(axis=1, keepdims=True)).mean(axis=1)
    bias = stats.norm.ppf(below.clip(1 / RESAMPLES, 1 - 1 / RESAMPLES))[:, None]
    spread = values - values.mean(axis=1, keepdims=True)  # jackknife: minus (n - 1) times the deviation
    skew = (spread**3).sum(axis=1) / (6 * (spread**2).sum(axis=1) ** 1.5)
    normal = bias + stats.norm.ppf(tails)  # (studies, 2)
    corrected = stats.norm.cdf(bias + normal / (1 - skew[:, None] * normal))
    bca = np.array([np.quantile(*pair) for pair in zip(means, corrected, strict=True)])
    percentile = np.quantile(means, tails, axis=1)
    return (bca[:, 0], bca[:, 1]), (percentile[0], percentile[1])


def covered(interval: tuple[Array, Array], true: Array | float) -> str:
    """Share of the intervals that hold the true mean, in percent."""
    return f"{100 * np.mean((interval[0] <= true) & (true <= interval[1])):.1f}"


def class_draws(random: np.random.Generator, studies: int, n: int) -> tuple[Array, Array]:
    """(studies, n) differences of draws, and (studies,) the mean over all splits of each study's classes."""
    classes = random.normal(size=(studies, CLASSES))
    chosen = random.random((studies, n, CLASSES)).argsort(axis=2)[:, :, :TESTED]
    of_draws = np.take_along_axis(classes[:, None, :], chosen, axis=2).mean(axis=2)
    return of_draws + 0.1 * random.normal(size=of_draws.shape), classes.mean(axis=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=2_000, help="simulated studies a row")
    studies = parser.parse_args().studies
    random = np.random.default_rng(0)
    print("| differences | n | paired t | BCa | percentile | width of BCa / t |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (draw, mean) in DISTRIBUTIONS.items():
        for n in (3, 5, 10, 20):
            values = draw(random, (studies, n))
            t, (bca, percentile) = t_interval(values), bootstrap_intervals(values, random)
            width = np.median(bca[1] - bca[0]) / np.median(t[1] - t[0])
            cells = (covered(interval, mean) for interval in (t, bca, percentile))
            print(f"| {name} | {n} | {' | '.join(cells)} | {width:.2f} |")
    print("\n| draws of 89 classes | paired t, mean over their splits | paired t, mean over all classes |")
    print("| ---: | ---: | ---: |")
    for n in (5, 10, 20):
        values, own = class_draws(random, studies, n)
        t = t_interval(values)
        print(f"| {n} | {covered(t, own)} | {covered(t, 0.0)} |")


if __name__ == "__main__":
    main()
