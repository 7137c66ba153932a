"""Retrieval figures: against scikit-learn, by hand, and of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import descriptor_run
from commands import sacma
from sacma.metrics.retrieval import average_precision, both_ways, retrieval


def test_average_precision_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = torch.Generator().manual_seed(0)
    for levels in (3, 1000):  # with many ties, and with few
        distances = torch.randint(0, levels, (50, 30), generator=draw).double()
        right = torch.rand(50, 30, generator=draw) < 0.2
        right[:, 0] = True
        for row, hits in zip(distances, right, strict=True):
            wanted = metrics.average_precision_score(hits.numpy(), -row.numpy())
            assert average_precision(row, hits) == pytest.approx(wanted)


def test_recall_counts_queries_with_a_right_item_among_the_first() -> None:
    distances = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.5, 0.5, 0.5, 0.5], [1, 2, 3, 4]])
    right = torch.zeros(4, 4, dtype=torch.bool)
    right[0, 0] = right[1, 0] = right[2, 1] = True  # first, last, all alike; the fourth query has none
    found = retrieval(distances, right, ranks=(1, 3, 4))
    assert found.queries == 3
    assert found.recall == {1: pytest.approx(1 / 3), 3: pytest.approx(1 / 3), 4: 1.0}
    assert found.mean_average_precision == pytest.approx((1 + 1 / 4 + 1 / 4) / 3)
    assert retrieval(distances, torch.zeros_like(right)).queries == 0


def test_both_ways_by_hand() -> None:
    """Classes 0 seen, 1 and 2 unseen; clips 0 and 1 of class 0, clip 2 of class 1, clip 3 of class 2."""
    distances = torch.tensor([[0.1, 0.5, 0.9], [0.6, 0.2, 0.9], [0.2, 0.3, 0.9], [0.9, 0.4, 0.8]])
    labels, seen = torch.tensor([0, 0, 1, 2]), torch.tensor([True, False, False])
    found = both_ways(distances, labels, seen)
    assert found["names to clips, seen"].mean_average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found["names to clips, unseen"].mean_average_precision == pytest.approx((1 / 2 + 1) / 2)
    assert found["names to clips, unseen alone"].mean_average_precision == 1
    assert found["clips to names"].recall[1] == pytest.approx(1 / 4)
    assert found["clips to unseen names"].recall[1] == pytest.approx(1 / 2)
    shifted = both_ways(distances, labels, seen, bias=0.2)
    assert shifted["clips to names"].recall[1] == pytest.approx(2 / 4)
    assert shifted["names to clips, seen"] == found["names to clips, seen"]


def test_a_run_is_evaluated_with_them_when_asked(tmp_path: Path) -> None:
    run = descriptor_run.trained(tmp_path)
    before = (run / "result.json").read_bytes()
    plain = json.loads(sacma("evaluate", run, "--json").out)
    outcome = sacma("evaluate", run, "--retrieval", "--json")
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    figures = found.pop("retrieval")
    assert found == plain
    assert (run / "result.json").read_bytes() == before
    zsl = figures["clips to unseen names"]
    assert zsl["queries"] == 12
    assert 0 < zsl["recall"]["1"] <= zsl["recall"]["5"] <= 1
    assert "mAP" in sacma("evaluate", run, "--retrieval").out
