"""Linear and Dropout of this package beside PyTorch's: the same results, faster."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from sacma.models import layers, transformer
from sacma.models.layers import Dropout, Linear
from sacma.models.transformer import Tokens, Trunk
from sacma.types import Sequences

needs_onednn = pytest.mark.skipif(not layers._ONEDNN, reason="this processor's products go to MKL")


def both(net: Linear, values: Tensor) -> list[tuple[Tensor, ...]]:
    """Result and gradients (values, weight, bias) of ``net``, and those of nn.Linear in double precision."""
    plain = nn.Linear(net.in_features, net.out_features, bias=net.bias is not None).double()
    plain.load_state_dict(net.state_dict())
    found = []
    for one, x in ((net, values.clone()), (plain, values.double())):
        x.requires_grad_()
        result = one(x)
        weights = torch.linspace(-1, 1, result.numel(), dtype=x.dtype).view_as(result)
        found.append((result, *torch.autograd.grad((result * weights).sum(), [x, *one.parameters()])))
    return found


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 5), (7, 5), (3, 4, 5), (0, 5), (64, 300)])
def test_linear_is_torchs_up_to_rounding(shape: tuple[int, ...], bias: bool) -> None:
    net = Linear(shape[-1], 6, bias=bias)
    ours, theirs = both(net, torch.randn(shape))
    for own, other in zip(ours, theirs, strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own.double(), other, atol=1e-5, rtol=1e-5)


def operations(result: Tensor) -> set[str]:
    """Names of all backward functions of a result."""
    found, left = set(), [result.grad_fn]
    while left:
        if (one := left.pop()) is not None:
            found.add(one.name())
            left += [following for following, _ in one.next_functions]
    return found


@needs_onednn
def test_linear_uses_the_faster_product(monkeypatch: pytest.MonkeyPatch) -> None:
    net, values = Linear(3, 2), torch.randn(4, 3, requires_grad=True)
    assert "_ProductBackward" in operations(net(values))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(values)
    assert half.dtype == torch.bfloat16
    assert "_ProductBackward" not in operations(half)
    monkeypatch.setattr(layers, "_ONEDNN", False)
    assert operations(net(values)) == {"AddmmBackward0", "TBackward0", "torch::autograd::AccumulateGrad"}


@needs_onednn
def test_sizes_of_products_recur() -> None:
    """A product of each new size is compiled by oneDNN; few sizes come of all numbers of rows."""
    sizes = {rows + layers.spare_rows(rows, torch.zeros(1)) for rows in range(1000, 2000)}
    assert len(sizes) < 32
    assert all(0 <= layers.spare_rows(rows, torch.zeros(1)) <= max(16, rows / 16) for rows in range(1, 5000))


@needs_onednn
def test_linear_takes_rows_and_gradients_in_any_layout() -> None:
    net = Linear(6, 4)
    wide = torch.randn(5, 12)
    columns = torch.randn(6, 5).t().requires_grad_()
    torch.testing.assert_close(net(wide[:, ::2]), nn.functional.linear(wide[:, ::2], net.weight, net.bias))
    net(columns).sum().backward()  # the gradient is expanded from one number
    torch.testing.assert_close(columns.grad, net.weight.sum(0).expand(5, 6))


@needs_onednn
def test_linear_can_be_differentiated_twice() -> None:
    net, values = Linear(3, 2), torch.randn(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(net(values).square().sum(), values, create_graph=True)
    slope.square().sum().backward()
    weight = net.weight.detach().clone().requires_grad_()
    by_hand = 2 * (values @ weight.t() + net.bias) @ weight
    by_hand.square().sum().backward()
    torch.testing.assert_close(net.weight.grad, weight.grad)


def test_linear_can_be_exported() -> None:
    net = Linear(3, 2)
    program = torch.export.export(nn.Sequential(net), (torch.randn(4, 3),))
    assert any("linear" in str(node.target) for node in program.graph.nodes)
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_keeps_what_it_says(p: float) -> None:
    torch.manual_seed(0)
    dropped = round(256 * p) / 256
    values = torch.ones(100_003)  # not a whole number of words
    drop = Dropout(p).train()
    kept = drop(values)
    assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - dropped)])
    deviation = (dropped * (1 - dropped) / len(values)) ** 0.5
    assert float((kept == 0).float().mean()) == pytest.approx(dropped, abs=4 * deviation)


def test_dropout_draws_all_bytes_alike() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5).train()(torch.ones(20_000, 8)) == 0).float().mean(dim=0)
    assert dropped.tolist() == pytest.approx([0.5] * 8, abs=0.02)


def test_dropout_passes_gradients_where_values_pass() -> None:
    values = torch.randn(50, 40, requires_grad=True)
    kept = Dropout(0.3).train()(values)
    kept.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(kept, values * values.grad)
    assert values.grad.unique().tolist() == pytest.approx([0, 256 / 179])


def test_dropout_follows_torchs_random_state() -> None:
    drop, values = Dropout(0.3).train(), torch.ones(1000)
    torch.manual_seed(1)
    drop(values)
    state = torch.get_rng_state()
    following = drop(values)
    torch.set_rng_state(state)
    assert drop(values).equal(following)
    assert not drop(values).equal(following)


@pytest.mark.parametrize("p", [0.0, 0.001, 1.0])
def test_dropout_of_other_probabilities_is_torchs(p: float) -> None:
    values = torch.ones(1000)
    torch.manual_seed(2)
    ours = Dropout(p).train()(values)
    torch.manual_seed(2)
    assert ours.equal(nn.Dropout(p).train()(values))


def test_dropout_is_the_identity_in_evaluation() -> None:
    values = torch.randn(10)
    assert Dropout(0.3).eval()(values) is values
    assert copy.deepcopy(Dropout(0.3)).p == 0.3


@pytest.mark.parametrize("bfloat16", [False, True])
def test_normalised_tokens_are_made_again_for_the_backward_pass(bfloat16: bool) -> None:
    torch.manual_seed(0)
    norm, net = nn.LayerNorm(8), Linear(8, 4)
    made: list[torch.Size] = []
    norm.register_forward_hook(lambda _, inputs, result: made.append(result.shape))

    def gradients(again: bool) -> tuple[Tensor, ...]:
        values = torch.linspace(-1, 2, 512).view(64, 8).square().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            normed, made_again = transformer._normed(norm, values)
            with made_again if again else nullcontext():
                result = net(normed)
        return torch.autograd.grad(
            result.float().square().sum(), [values, *net.parameters(), *norm.parameters()]
        )

    kept = gradients(again=False)
    assert len(made) == 1
    for own, other in zip(gradients(again=True), kept, strict=True):
        assert own.equal(other)
    assert len(made) == 3
    with torch.no_grad():
        assert isinstance(transformer._normed(norm, torch.zeros(2, 8))[1], nullcontext)


def open_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """By the book, in double precision."""
    scores = q.double() @ k.double().transpose(2, 3) / q.shape[3] ** 0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v.double()


@pytest.mark.parametrize("length", [1, 9, transformer.LONGEST_OPEN + 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_and_its_gradients(dtype: torch.dtype, tolerance: float, length: int) -> None:
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, 3, length, 8).to(dtype).requires_grad_() for _ in range(3))
    mask = torch.rand(2, 1, length, length) > 0.3
    mask[..., 0] = True
    weights = torch.randn(2, 3, length, 8)
    found, exact = transformer.attention(q, k, v, mask), open_attention(q, k, v, mask)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=tolerance)
    ours = torch.autograd.grad((found.float() * weights).sum(), [q, k, v])
    theirs = torch.autograd.grad((exact * weights).sum(), [q, k, v])
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.double(), other.double(), atol=2 * tolerance, rtol=2 * tolerance)


def random_sequences(generator: torch.Generator, clips: int, width: int) -> Sequences:
    """Up to 20 steps a clip, among them none and one."""
    lengths = torch.randint(0, 21, (clips,), generator=generator)
    lengths[:2] = torch.tensor([0, 1])
    values = torch.randn(clips, 20, width, generator=generator)
    return Sequences.from_padded(values, lengths)


def test_short_clips_share_rows_and_see_only_their_own() -> None:
    audio = Sequences.from_padded(torch.zeros(5, 6, 3), torch.tensor([6, 2, 0, 1, 2]))
    video = Sequences.from_padded(torch.zeros(5, 6, 3), torch.tensor([0, 1, 0, 1, 0]))
    tokens = Tokens.join(torch.ones(3), [audio, video], shared=True)
    # 7, 4, 1, 3 and 3 tokens: the first row is full, the second takes two clips, and so does the third
    assert (tokens.rows, tokens.length, tokens.clips_a_row) == (3, 7, 2)
    assert len(tokens.slots.unique()) == len(tokens.slots) == 18
    owner = torch.cat([torch.arange(5), audio.clip, video.clip])
    mask = tokens.mask[:, 0]
    row, place = tokens.slots // 7, tokens.slots % 7
    for token in range(18):
        seen = [
            other
            for other in range(18)
            if row[other] == row[token] and mask[row[token], place[token], place[other]]
        ]
        assert seen == (owner == owner[token]).nonzero().flatten().tolist()
        assert int(mask[row[token], place[token]].sum()) == len(seen)
    assert tokens.packed()[:5].equal(torch.ones(5, 3))
    assert tokens.values.sum() == 5 * 3
    assert tokens.laid_out(tokens.packed()).equal(tokens.values)


def test_clips_of_one_length_leave_no_padding() -> None:
    audio = Sequences.from_padded(torch.zeros(8, 4, 3), torch.full((8,), 4))
    tokens = Tokens.join(torch.ones(3), [audio], shared=True)
    assert (tokens.rows, tokens.length, tokens.clips_a_row) == (8, 5, 1)
    assert tokens.mask.all()


def test_no_clip_leaves_no_row() -> None:
    none = Sequences.from_padded(torch.zeros(0, 0, 3), torch.zeros(0, dtype=torch.long))
    assert Tokens.join(torch.ones(3), [none], shared=True).values.shape == (0, 3)


def plain_trunk(trunk: Trunk, audio: Sequences, video: Sequences) -> dict[str, Tensor]:
    """What ``trunk`` computes in evaluation, clip by clip and layer by layer, each token making a key."""
    placed = trunk.steps(audio, video, published_scaling=False, with_padding=False)
    a, v = (part.values.split(part.lengths.tolist()) for part in placed)
    found: dict[str, list[Tensor]] = {"a": [], "v": [], "m": []}
    for steps_a, steps_v in zip(a, v, strict=True):
        for name, parts in {"a": [steps_a], "v": [steps_v], "m": [steps_a, steps_v]}.items():
            x = torch.cat([trunk.class_token[None], *parts])
            kind = torch.tensor([0] + [1] * len(parts[0]) + [2] * (len(x) - 1 - len(parts[0])))
            mask = torch.ones(len(x), len(x), dtype=torch.bool)
            if name == "m":
                mask = (kind[:, None] != kind) | (kind[:, None] == 0)
            for layer in trunk.transformer.layers:
                normed = layer.norm(x)
                q, k, v_ = (
                    rows.unflatten(1, (layer.heads, -1)).transpose(0, 1)[None]
                    for rows in (layer.to_queries(normed), *layer.to_keys_values(normed).chunk(2, dim=1))
                )
                read = open_attention(q, k, v_, mask).float()[0].transpose(0, 1).flatten(1)
                x = x + layer.out(read)
                x = x + layer.feed_forward(layer.second_norm(x))
            found[name].append(x[0])
    return {name: torch.stack(rows) for name, rows in found.items()}


@pytest.mark.parametrize(("seed", "clips"), [(0, 2), (1, 9), (2, 70)])
@torch.no_grad()
def test_trunk_is_what_its_layers_say(seed: int, clips: int) -> None:
    """Packing, shared rows, spare rows, class tokens alone in the last layer change rounding alone."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    sizes = {"heads": 2, "head_width": 8, "hidden": 16, "dropout": 0.3, "shared_norm": False}
    trunk = Trunk(
        6, 7, 24, encoder_hidden=16, encoder_dropout=0.2, position_dropout=0.1, depth=3, **sizes
    ).eval()
    audio, video = random_sequences(generator, clips, 6), random_sequences(generator, clips, 7)
    plain = plain_trunk(trunk, audio, video)
    choices = {"streams": "avm", "published_scaling": False, "with_padding": False}
    found = trunk(audio, video, **choices)
    for name, rows in plain.items():
        torch.testing.assert_close(found[name], rows, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = trunk(audio, video, **choices)
    for name, rows in plain.items():
        assert float((half[name].float() - rows).norm() / rows.norm()) < 0.02
