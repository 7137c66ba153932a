"""Attention that writes its gradients where they are wanted gives what PyTorch gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sacma.models import attention_gradients
from sacma.models.packing import join
from sacma.models.tokens import Tokens
from sacma.models.transformer import TransformerLayer
from sacma.types import Sequences


def inputs(*, uniform: bool, share_rows: bool) -> list[Tokens]:
    torch.manual_seed(1)
    lengths = [torch.tensor([3, 0, 1, 2, 5]), torch.tensor([2, 2, 2, 2, 2])]
    audio, video = (Sequences.from_padded(torch.randn(5, int(n.max()), 8), n) for n in lengths)
    token = torch.zeros(8)
    return [
        join(token, [audio], uniform=uniform, share_rows=share_rows),
        join(token, [video], share_rows=share_rows),
        join(token, [audio, video], attention="cross", share_rows=share_rows),
    ]


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("share_rows", [False, True])
def test_values_and_gradients_are_those_of_pytorch(
    uniform: bool, share_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(uniform=uniform, share_rows=share_rows)
    sizes = [one.rows * one.length for one in given]
    layer = TransformerLayer(8, heads=2, head_width=4, hidden=6, dropout=0.0, shared_norm=True)
    spare = 3
    rows = [torch.randn(sum(sizes) + spare, width) for width in (8, 16)]
    weights = [torch.randn(size, 8) for size in sizes]

    def computed() -> list[Tensor]:
        leaves = [one.clone().requires_grad_() for one in rows]
        read = layer._attended(*leaves, given)
        loss = sum((one * weight).sum() for one, weight in zip(read, weights, strict=True))
        assert isinstance(loss, Tensor)
        return [*(one.detach() for one in read), *torch.autograd.grad(loss, leaves)]

    used: list[bool] = []
    real_takes = attention_gradients.takes
    monkeypatch.setattr(attention_gradients, "takes", lambda q: used.append(real_takes(q)) or used[-1])
    ours = computed()
    monkeypatch.setattr(attention_gradients, "takes", lambda queries: False)
    assert used == [True]
    for own, theirs in zip(ours, computed(), strict=True):
        assert torch.equal(own, theirs)


@pytest.mark.parametrize(
    "change",
    [lambda x: x.double(), lambda x: x.bfloat16(), lambda x: x.detach(), lambda x: x[:0]],
    ids=["double", "bfloat16", "without gradients", "empty"],
)
def test_other_types_and_evaluation_take_the_plain_way(change: Any) -> None:
    rows = torch.randn(4, 8, requires_grad=True)
    assert attention_gradients.takes(rows)
    assert not attention_gradients.takes(change(rows))
