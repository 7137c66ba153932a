"""LayerNorm outputs that backward computes again: the same values and gradients, one more pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sacma.models.layers import Linear
from sacma.models.recomputation import recomputed


@pytest.mark.parametrize("bfloat16", [False, True])
def test_values_and_gradients_are_those_of_a_norm_that_is_kept(bfloat16: bool) -> None:
    torch.manual_seed(0)
    norm, net = nn.LayerNorm(8), Linear(8, 4)
    made: list[torch.Size] = []
    norm.register_forward_hook(lambda _, inputs, result: made.append(result.shape))

    def gradients(again: bool) -> tuple[Tensor, ...]:
        values = torch.linspace(-1, 2, 512).view(64, 8).square().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            if again:
                with recomputed(norm, values) as normed:
                    result = net(normed)
            else:
                kept = norm(values)
                result = net(kept.bfloat16() if bfloat16 else kept)
        return torch.autograd.grad(
            result.float().square().sum(), [values, *net.parameters(), *norm.parameters()]
        )

    kept = gradients(again=False)
    assert len(made) == 1
    for own, other in zip(gradients(again=True), kept, strict=True):
        assert own.equal(other)
    assert len(made) == 3


def test_without_gradients_nothing_is_recomputed() -> None:
    norm, values = nn.LayerNorm(8), torch.randn(2, 8)
    with torch.no_grad(), recomputed(norm, values) as normed:
        result = normed * 1
    assert result.equal(norm(values))
    assert not result.requires_grad
