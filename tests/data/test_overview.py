"""What is said of a benchmark before training: counts, chance, and the interval of a simulated test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import commands
import folders
from sacma.data.benchmark import Benchmark
from sacma.data.overview import Overview, half_width


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy") / "root")


def test_counts_and_chance(root: Path) -> None:
    found = Overview.of(Benchmark.open(root, folders.NAME, folders.FEATURES))
    assert found.clips == {"train": 5 * 8, "val": 5 * 3 + 2 * 5, "test": 4 * 10}
    assert found.classes == {"train": (5, 0), "val": (5, 2), "test": (7, 3)}
    assert found.chance == {"S": 0.1, "U": 0.1, "HM": 0.1, "ZSL": 1 / 3}
    assert found.widths["ZSL"] == found.widths["U"] > found.widths["S"] > 0.1


def test_the_interval_is_that_of_coins() -> None:
    counts = torch.tensor([30, 50, 0, 20])
    generator = torch.Generator().manual_seed(0)
    kept = counts[counts > 0].double().expand(4000, -1)
    means = (torch.binomial(kept, torch.full_like(kept, 0.5), generator=generator) / kept).mean(1)
    assert half_width(counts) == pytest.approx(1.96 * float(means.std()), rel=0.05)


def test_training_says_it_and_warns_of_a_small_test_set(root: Path, tmp_path: Path) -> None:
    outcome = commands.train(root, tmp_path / "run", "--epochs=2")
    said = outcome.out + outcome.err
    assert "clips: train 40 of 5 seen; val 25 of 5 seen and 2 unseen; test 40 of 7 seen and 3 unseen" in said
    assert "chance: S 10.0, U 10.0, HM 10.0, ZSL 33.3; 95 % interval over test clips, at most: S ± " in said
    assert "warning: test is small: a difference below about 40 points" in said


def test_no_warning_where_test_is_large() -> None:
    large = Overview(clips={"test": 5000}, classes={"test": (30, 12)}, widths={"S": 0.02, "ZSL": 0.03})
    assert not any("warning" in line for line in large.lines())
