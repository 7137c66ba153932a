"""LayerNorm outputs that backward computes again: the same values and gradients, one more pass."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn

from sacma.models.layers import Linear
from sacma.models.recomputation import recomputed
from sacma.models.sacma import SACMA
from sacma.models.transformer import save_memory
from sacma.types import Sequences


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


def test_it_is_kept_by_none_of_its_readers_and_made_again_once() -> None:
    norm, layers = nn.LayerNorm(8), [Linear(8, 4) for _ in range(3)]
    made: list[torch.Size] = []
    norm.register_forward_hook(lambda _, inputs, result: made.append(result.shape))
    values = torch.randn(16, 8, requires_grad=True)
    with recomputed(norm, values) as normed:
        results = [layer(normed) for layer in layers]
    kept = weakref.ref(normed)
    del normed
    assert kept() is None
    for _ in range(2):
        torch.autograd.grad(torch.stack(results).square().sum(), values, retain_graph=True)
    weights = [layer.weight for layer in layers]
    made.clear()
    torch.autograd.grad(torch.stack(results).square().sum(), weights)
    assert len(made) == 1


def test_without_gradients_nothing_is_recomputed() -> None:
    norm, values = nn.LayerNorm(8), torch.randn(2, 8)
    with torch.no_grad(), recomputed(norm, values) as normed:
        result = normed * 1
    assert result.equal(norm(values))
    assert not result.requires_grad


def test_layers_that_run_again_give_the_same_gradients_with_dropout() -> None:
    audio, video = (
        Sequences.from_padded(torch.randn(5, steps, width), torch.tensor([steps, 1, 3, 2, steps]))
        for steps, width in ((6, 7), (4, 9))
    )
    sizes = {
        "encoder_hidden": 16,
        "feed_forward_hidden": 16,
        "width": 12,
        "depth": 3,
        "heads": 2,
        "head_width": 4,
    }
    model = SACMA(audio_width=7, video_width=9, text_width=8, **sizes, transformer_dropout=0.4).train()
    ran: list[int] = []
    model.trunk.transformer.layers[0].register_forward_pre_hook(lambda *_: ran.append(1))

    def gradients() -> list[Tensor]:
        torch.manual_seed(3)
        tokens = model.trunk(audio, video, streams="avm", published_scaling=False, with_padding=False)
        loss = sum(one.square().sum() for one in tokens.values())
        return list(torch.autograd.grad(loss, list(model.trunk.transformer.parameters())))

    kept = gradients()
    assert len(ran) == 1
    save_memory(model)
    for again, own in zip(gradients(), kept, strict=True):
        assert torch.equal(again, own)
    assert len(ran) == 3
