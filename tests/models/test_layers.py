"""Linear and Dropout of this package beside PyTorch's: the same results, faster."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sacma.models import layers
from sacma.models.layers import Dropout, Linear

needs_onednn = pytest.mark.skipif(not layers.ONEDNN, reason="oneDNN is not used on this processor")


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oneDNN multiply in float32, as it does where the processor is not Intel's."""
    monkeypatch.setattr(layers, "FLOAT32_BY_ONEDNN", True)


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
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 5), (7, 5), (3, 4, 5), (0, 5), (64, 300)])
def test_linear_is_torchs_up_to_rounding(shape: tuple[int, ...], bias: bool) -> None:
    net = Linear(shape[-1], 6, bias=bias)
    ours, theirs = both(net, torch.randn(shape))
    for own, other in zip(ours, theirs, strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own.double(), other, atol=1e-5, rtol=1e-5)


def operations(net: nn.Module, values: Tensor) -> set[str]:
    """Names of the operations that ``net`` runs."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        net(values)
    return {event.key for event in seen.key_averages()}


@needs_onednn
@pytest.mark.usefixtures("onednn")
def test_linear_uses_the_faster_product(monkeypatch: pytest.MonkeyPatch) -> None:
    net, values, faster = Linear(3, 2), torch.randn(4, 3), "mkldnn::_linear_pointwise"
    assert faster in operations(net, values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(values).dtype == torch.bfloat16
        assert faster not in operations(net, values)
    monkeypatch.setattr(layers, "FLOAT32_BY_ONEDNN", False)
    plain = operations(net, values)
    assert "aten::addmm" in plain
    assert faster not in plain


@needs_onednn
@pytest.mark.usefixtures("onednn")
def test_sizes_of_products_recur() -> None:
    """A product of each new size is compiled by oneDNN; few sizes come of all numbers of rows."""
    sizes = {rows + layers.spare_rows(rows, torch.zeros(1)) for rows in range(1000, 2000)}
    assert len(sizes) < 32
    assert all(0 <= layers.spare_rows(rows, torch.zeros(1)) <= max(16, rows / 16) for rows in range(1, 5000))


@needs_onednn
def test_sizes_recur_in_bfloat16_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "FLOAT32_BY_ONEDNN", False)
    assert layers.spare_rows(1001, torch.zeros(1)) == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layers.spare_rows(1001, torch.zeros(1)) > 0


@needs_onednn
@pytest.mark.usefixtures("onednn")
def test_linear_takes_rows_and_gradients_in_any_layout() -> None:
    net = Linear(6, 4)
    wide = torch.randn(5, 12)
    columns = torch.randn(6, 5).t().requires_grad_()
    torch.testing.assert_close(net(wide[:, ::2]), nn.functional.linear(wide[:, ::2], net.weight, net.bias))
    net(columns).sum().backward()  # the gradient is expanded from one number
    torch.testing.assert_close(columns.grad, net.weight.sum(0).expand(5, 6))


@needs_onednn
@pytest.mark.usefixtures("onednn")
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
