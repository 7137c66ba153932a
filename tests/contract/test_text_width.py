"""Every method works with class vectors of any width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from folders import FEATURES, NAME, write_folder
from sacma.data.batches import gather, other_class
from sacma.data.benchmark import Benchmark
from sacma.models import METHODS
from sacma.runs.config import resolve
from sacma.training.loop import build, fit, fit_scaling


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("width", [5, 384])
@pytest.mark.parametrize("method", [name for name, cls in METHODS.items() if not cls.needs_joint_space])
def test_methods_take_vectors_of_any_width(method: str, width: int, root: Path) -> None:
    benchmark = Benchmark.open(root, NAME, FEATURES)
    vectors = np.random.default_rng(0).standard_normal((len(benchmark.classes), width))
    changed = replace(benchmark, vectors=torch.from_numpy(vectors).float())
    config = resolve({"method": method, "features": FEATURES, "preset": "small"})
    split = changed.split("train")
    built = build(METHODS[method], split, config)
    fit_scaling(built, split)
    rows = torch.arange(8)
    others = other_class(split.labels, rows) if built.needs_negatives else None
    batch = gather(split, rows, negatives=others)
    optimisers = built.optimisers(config.training)
    if config.training.batches_per_epoch:
        built.step(batch, split.classes, optimisers)
    test = changed.split("test")
    fit(built, split, test.classes, torch.device("cpu"))
    built.eval()
    assert built.distances(gather(test, rows), test.classes).shape == (8, len(test.classes))
