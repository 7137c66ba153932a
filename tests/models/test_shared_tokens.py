"""The first layer projects a token that several inputs have once; values and gradients stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sacma.models.packing import join
from sacma.models.shared_tokens import shared_tokens
from sacma.models.tokens import Tokens
from sacma.models.transformer import Transformer, save_memory
from sacma.types import Sequences


def sequences(lengths: list[int], width: int) -> Sequences:
    values = torch.randn(len(lengths), max(lengths), width)
    return Sequences.from_padded(values, torch.tensor(lengths))


def joined(token: Tensor, audio: Sequences, video: Sequences, streams: str) -> dict[str, Tokens]:
    parts = {"a": [audio], "v": [video], "m": [audio, video]}
    return {name: join(token, parts[name], attention="cross", share_rows=True) for name in streams}


@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize("streams", ["avm", "mva", "am", "mv"])
def test_values_and_gradients_are_those_without_sharing(streams: str, saves: bool) -> None:
    torch.manual_seed(0)
    net = Transformer(8, depth=3, heads=2, head_width=4, hidden=6, dropout=0.0, shared_norm=True).double()
    if saves:
        save_memory(net)
    token = torch.randn(8, dtype=torch.float64, requires_grad=True)
    audio, video = sequences([3, 0, 1, 2], 8), sequences([1, 4, 0, 2], 8)
    audio, video = (one.with_values(one.values.double().requires_grad_()) for one in (audio, video))
    leaves = [token, audio.values, video.values, *net.parameters()]
    weights = torch.randn(4, 8, dtype=torch.float64)
    found = []
    for sharing in (False, True):
        inputs = joined(token, audio, video, streams)
        shared = shared_tokens(inputs) if sharing else None
        assert (shared is not None) is sharing
        outputs = net(inputs, shared)
        loss = sum(((number + 1) * weights * out).sum() for number, out in enumerate(outputs.values()))
        assert isinstance(loss, Tensor)
        found.append([*outputs.values(), *torch.autograd.grad(loss, leaves)])
    for plain, once in zip(*found, strict=True):
        torch.testing.assert_close(once, plain, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("streams", ["m", "a", "av"])
def test_inputs_without_common_steps_share_nothing(streams: str) -> None:
    audio, video = sequences([3, 1], 8), sequences([1, 4], 8)
    assert shared_tokens(joined(torch.zeros(8), audio, video, streams)) is None


def test_a_token_stands_once_in_the_table() -> None:
    audio, video = sequences([3, 1], 8), sequences([1, 4], 8)
    shared = shared_tokens(joined(torch.zeros(8), audio, video, "avm"))
    assert shared is not None
    assert shared.source.unique().numel() == 2 + 4 + 5
    assert 2 + 4 + 5 <= shared.values.shape[0] < 2 + 4 + 5 + 16
