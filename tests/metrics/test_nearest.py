"""The nearest classes of clips: without candidates of a kind, and with distances that are not finite."""

from __future__ import annotations

import math

import pytest
import torch

from sacma.errors import SacmaError
from sacma.metrics.nearest import nearest


def test_nearest_without_seen_candidates() -> None:
    found = nearest(torch.tensor([[3.0, 2.0]]), torch.tensor([False, False]), positions=torch.tensor([4, 7]))
    assert found.seen_distance.tolist() == [math.inf]
    assert found.unseen_class.tolist() == [7]
    assert not found.predicts_seen(0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_distances_that_are_not_finite_are_named(bad: float) -> None:
    distances = torch.zeros(3, 4)
    distances[1, 2] = distances[2, 0] = bad
    with pytest.raises(SacmaError, match=f"clip 1 to class 2 is {bad}, one of 2"):
        nearest(distances, torch.tensor([True, True, False, False]))
