"""Statistics in one pass, and the sample, against all clips at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sacma.models import moments as module
from sacma.models.kite_features import principal
from sacma.models.moments import Moments, Sample, Statistics


def clips(count: int, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    scale = torch.arange(1, width + 1).float()
    return torch.randn(count, width, generator=generator) * scale + 2, torch.arange(count) % 3


@pytest.mark.parametrize("count", [4, 60])
def test_one_pass_is_what_all_clips_give(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 16)
    x, labels = clips(count)
    streamed = Moments(4)
    for rows, own in zip(x.split(7), labels.split(7), strict=True):
        streamed.add(rows, own)
    assert streamed.clips == count
    if count > 16:
        assert len(streamed._rows) <= 3  # nothing is kept of the others
    exact = x.double()
    found = streamed.statistics()
    expected = torch.stack([exact[labels == label].sum(0) for label in range(4)])
    torch.testing.assert_close(found.sums, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.second, exact.T @ exact, rtol=1e-5, atol=1e-5)
    assert found.counts.tolist() == [float((labels == label).sum()) for label in range(4)]


@pytest.mark.parametrize("count", [4, 60])
def test_axes_are_the_principal_ones(count: int) -> None:
    x, labels = clips(count)
    streamed = Moments(3)
    streamed.add(x, labels)
    axes = streamed.axes(2)
    expected = principal(x, 2)
    torch.testing.assert_close(
        (axes.T @ expected).abs(), torch.eye(2, dtype=torch.float64), atol=1e-4, rtol=0
    )
    along = streamed.along(axes)
    torch.testing.assert_close(
        along.second, Statistics.of(x @ axes.float(), labels, 3).second, rtol=1e-4, atol=1e-3
    )


def test_columns_that_come_later_are_zero_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 8)
    x, labels = clips(40)
    x[:20, 4:] = 0
    late, whole = Moments(3), Moments(3)
    late.add(x[:20, :4], labels[:20])
    late.add(x[20:], labels[20:])
    whole.add(x, labels)
    for one, other in zip(late.statistics(), whole.statistics(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_more_classes_and_clips_add_up() -> None:
    x, labels = clips(30)
    before = Statistics.of(x[:20], labels[:20] % 2, 2)
    more = Statistics.of(x[20:], labels[20:] % 2, 2)
    found = before.grown(more, torch.tensor([2, 0]), 3)  # the class 0 of the others is new, 1 is our class 0
    own = torch.cat([labels[:20] % 2, torch.tensor([2, 0])[labels[20:] % 2]])
    for one, other in zip(found, Statistics.of(x, own, 3), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_the_sample_is_even_and_the_same_however_clips_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 8)
    x, _ = clips(200)
    labels = (torch.arange(200) > 150).long()
    groups = torch.where(torch.arange(200) % 5 == 0, -1, torch.arange(200) // 4)
    samples = []
    for size in (200, 7):
        sample = Sample(10, start=1000)
        for part in torch.arange(200).split(size):
            sample.add(x[part], labels[part], groups[part])
        samples.append(sample)
    whole, in_parts = samples
    assert torch.equal(whole.numbers, in_parts.numbers)
    assert torch.equal(whole.rows, in_parts.rows)
    assert torch.equal(whole.rows, x[whole.numbers - 1000])
    assert torch.equal(whole.labels, labels[whole.numbers - 1000])
    assert torch.bincount(whole.labels).tolist() == [10, 10]
    of_first = whole.numbers[whole.labels == 0] - 1000
    assert 40 < float(of_first.float().mean()) < 110  # from all over the clips, not the first ones
    found = whole.groups
    assert found is not None
    assert len(found.unique()) >= len(set(groups[whole.numbers - 1000].tolist()) - {-1})
    assert Sample(2).groups is None


def test_no_clips() -> None:
    assert len(Sample(2).rows) == 0
    assert Moments(2).clips == 0
