"""The paired test, against numbers computed by hand, and Holm's correction."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from sacma.metrics.significance import LEAST_DRAWS, holm, mean_interval, paired

pytest.importorskip("scipy")


def test_against_the_formula_of_the_t_test() -> None:
    ours, theirs = {0: 0.30, 1: 0.34, 2: 0.29, 3: 0.40, 9: 0.9}, {3: 0.31, 2: 0.28, 1: 0.30, 0: 0.25}
    test = paired(ours, theirs)
    differences = [0.05, 0.04, 0.01, 0.09]
    mean = sum(differences) / 4
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3 / 4)
    assert test.pairs == 4
    assert test.difference == pytest.approx(mean)
    assert (test.low, test.high) == pytest.approx((mean - 3.182446 * error, mean + 3.182446 * error))
    assert test.p == pytest.approx(0.063775, abs=1e-6)  # of t = 2.8753 with 3 degrees of freedom
    assert paired(theirs, ours).p == pytest.approx(test.p)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_too_few_pairs_are_not_tested(seeds: int) -> None:
    ours = {seed: 0.3 + seed for seed in range(seeds)}
    test = paired(ours, dict.fromkeys(range(seeds), 0.1) | {99: 0.0})
    assert test.pairs == seeds
    assert math.isnan(test.p)
    assert math.isnan(test.low)
    assert math.isnan(test.difference) == (seeds == 0)


def test_the_same_difference_in_each_pair_is_not_tested() -> None:
    test = paired({0: 0.3, 1: 0.5, 2: 0.7}, {0: 0.2, 1: 0.4, 2: 0.6})
    assert test.difference == pytest.approx(0.1)
    assert math.isnan(test.p)


def test_the_interval_of_a_mean_difference() -> None:
    values = [0.05, 0.04, 0.01, 0.09, 0.03]
    error = statistics.stdev(values) / math.sqrt(5)
    centre = statistics.mean(values)
    expected = (centre - 2.776445 * error, centre + 2.776445 * error)  # t with 4 degrees of freedom
    assert mean_interval(values) == pytest.approx(expected, abs=1e-8)
    assert mean_interval([0.25] * 5) == (0.25, 0.25)


def test_the_interval_covers_what_it_should() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for values in random.normal(0.02, 0.05, size=(1000, LEAST_DRAWS)):
        low, high = mean_interval(values.tolist())
        inside += low <= 0.02 <= high
    assert 930 <= inside <= 970  # a percentile bootstrap has some 850


def test_few_draws_have_no_interval() -> None:
    assert all(map(math.isnan, mean_interval([0.1] * (LEAST_DRAWS - 1))))


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with_nan = holm([math.nan, 0.03])
    assert math.isnan(with_nan[0])
    assert with_nan[1] == 0.03
