"""Area under the ROC curve of rejection, against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch

from sacma.metrics.rejection import auroc


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000])
def test_it_is_that_of_scikit_learn(seed: int, levels: int) -> None:
    """With many ties and with hardly any."""
    metrics = pytest.importorskip("sklearn.metrics")
    draw = torch.Generator().manual_seed(seed)
    distances = torch.randint(levels, (60,), generator=draw).double() / levels
    fits = torch.rand(60, generator=draw) < 0.4
    expected = metrics.roc_auc_score(fits.numpy(), -distances.numpy())
    assert auroc(distances, fits) == pytest.approx(expected, abs=1e-12)


def test_infinite_distances_are_the_largest() -> None:
    distances = torch.tensor([1.0, 2.0, math.inf, math.inf])
    assert auroc(distances, torch.tensor([True, True, False, False])) == 1.0
    assert auroc(distances, torch.tensor([True, True, True, False])) == pytest.approx(2.5 / 3)


def test_one_kind_of_clip_alone_has_none() -> None:
    assert math.isnan(auroc(torch.tensor([1.0, 2.0]), torch.tensor([True, True])))
