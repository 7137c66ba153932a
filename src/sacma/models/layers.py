"""Layers that the methods share: input scaling, faster Linear and Dropout, embedding networks.

All work on rows, (N, D), of which none is padding. Sizes are read by ``shape``, as exporters make a constant
of ``len``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma import machine


class InputScaling(nn.Module):
    """Scale feature vectors.

    Args:
        width: D, of a vector.
        kind: ``published`` changes nothing, as the method does its own scaling; ``standardise`` uses the
            statistics given to ``fit``, which are saved with the weights; ``unit`` gives unit length.

    Example:
        >>> InputScaling(2, "unit")(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "standardise":
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, parts: Iterable[Tensor]) -> None:
        """Take mean and standard deviation of each channel; the deviation of a constant channel is 1.

        Args:
            parts: (N, D) each; together all training vectors, so that they need not be in memory at once.
        """
        if self.kind != "standardise":
            return
        count, mean, square = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for part in filter(len, parts):  # of Chan et al., "Updating formulae", 1979
            variance, of_part = (one.double() for one in torch.var_mean(part, dim=0, correction=0))
            step, total = of_part - mean, count + len(part)
            square = square + len(part) * variance + step.square() * (count * len(part) / total)
            mean, count = mean + step * (len(part) / total), total
        if count:
            deviation = (square / count).sqrt()
            self.mean.copy_(mean)
            self.deviation.copy_(torch.where(deviation > 1e-6 * (mean.abs() + 1e-6), deviation, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        if self.kind == "standardise":
            return (values - self.mean) / self.deviation
        return F.normalize(values, dim=-1) if self.kind == "unit" else values


class _Product(torch.autograd.Function):
    """``rows @ weight.T + bias`` and its gradients by oneDNN; (M, K) rows, (N, K) weight, (N,) bias."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        rows, weight = ctx.saved_tensors
        for_rows, for_weight, for_bias = ctx.needs_input_grad
        return (
            _Product.apply(gradient, weight.t(), None) if for_rows else None,
            _Product.apply(gradient.t(), rows.t(), None) if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )


ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""oneDNN multiplies at full speed here; PyTorch gives it all products of lower precision than float32."""
FLOAT32_BY_ONEDNN = ONEDNN and not machine.by_intel()
"""PyTorch gives float32 products to MKL, which leaves half the width of AMD's vector units idle."""


class Linear(nn.Linear):
    """``nn.Linear`` with a faster float32 product on CPUs; results differ by rounding alone.

    When a network is traced (export, compile) or runs in another precision, it behaves as ``nn.Linear``.
    """

    def forward(self, values: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        return linear(values, self.weight, self.bias)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` as ``Linear`` computes it: (..., D) values, (D', D) weight, (D',) bias -> (..., D')."""
    if not _by_onednn(values) or not values.numel():
        return F.linear(values, weight, bias)
    rows = values.reshape(-1, weight.shape[1])
    spare = spare_rows(rows.shape[0], rows)
    padded = F.pad(rows, (0, 0, 0, spare)) if spare else rows
    products = (_Product.apply if _is_float32(padded) else F.linear)(padded, weight, bias)
    return products[: rows.shape[0]].view(*values.shape[:-1], weight.shape[0])


def _by_onednn(values: Tensor) -> bool:
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    wanted = FLOAT32_BY_ONEDNN if _is_float32(values) else ONEDNN
    return wanted and values.device.type == "cpu" and not traced


def _is_float32(values: Tensor) -> bool:
    """True if they are multiplied in float32."""
    return values.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def spare_rows(count: int, like: Tensor) -> int:
    """Number of rows to add to ``count`` rows, at most a sixteenth, so that few sizes occur.

    oneDNN compiles a product for each new size, which takes as long as running it once or twice.
    """
    return -count % max(16, 1 << max(count.bit_length() - 5, 0)) if _by_onednn(like) else 0


class _Drop(torch.autograd.Function):
    """``values * mask * scale``; backward keeps a mask of bytes, a quarter of what ``F.dropout`` keeps."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return mask.to(values.dtype).mul_(scale).mul_(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (mask,) = ctx.saved_tensors
        return mask.to(gradient.dtype).mul_(ctx.scale).mul_(gradient), None, None


class Dropout(nn.Dropout):
    """``nn.Dropout`` that draws one byte per value on CPUs, in a tenth of the time.

    The probability is then the nearest multiple of 1/256 (77/256 for 0.3), and the kept values are divided by
    the exact share that is kept. Draws follow torch's random state.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same."""
        dropped = round(256 * self.p)
        if not self.training or values.device.type != "cpu" or not 0 < dropped < 256:
            return super().forward(values)
        return _Drop.apply(values, _byte_mask(values.shape, dropped), 256 / (256 - dropped))


def _byte_mask(shape: torch.Size, dropped: int) -> Tensor:
    """Draw a uint8 mask that is 0 with probability ``dropped`` / 256 and 1 otherwise."""
    size = shape.numel()
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)  # all of its 64 bits
    draws = words.view(torch.uint8)[:size].view(shape)
    return draws.clamp_(dropped - 1, dropped).sub_(dropped - 1)


class EmbeddingNet(nn.Sequential):
    """One or two rounds of Linear, BatchNorm, ReLU, Dropout; its outputs are never negative.

    Args:
        width_in: input width.
        width_out: output width.
        hidden: width of the hidden layer; None for a single round.
        dropout: probability, after each ReLU.
        momentum: of the last BatchNorm.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        hidden: int | None = None,
        dropout: float,
        momentum: float = 0.1,
    ) -> None:
        widths = [width_in, width_out] if hidden is None else [width_in, hidden, width_out]
        layers: list[nn.Module] = []
        for index, (width, following) in enumerate(pairwise(widths)):
            last = index == len(widths) - 2
            norm = nn.BatchNorm1d(following, momentum=momentum if last else 0.1)
            layers += [Linear(width, following), norm, nn.ReLU(), Dropout(dropout)]
        super().__init__(*layers)


class TwoLayerNet(nn.Sequential):
    """Linear, BatchNorm, ReLU, Dropout, Linear: the embedding network of CJME and AVGZSLNet.

    Args:
        width_in: input width.
        hidden: width of the hidden layer.
        width_out: output width.
        dropout: probability, after the ReLU.
        final_relu: put a ReLU after the second linear layer.
    """

    def __init__(
        self, width_in: int, hidden: int, width_out: int, *, dropout: float, final_relu: bool = False
    ) -> None:
        layers: list[nn.Module] = [
            Linear(width_in, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            Dropout(dropout),
            Linear(hidden, width_out),
        ]
        super().__init__(*layers, *([nn.ReLU()] if final_relu else []))


def concatenated(audio: Tensor, video: Tensor, *, unit: bool) -> Tensor:
    """Concatenate averaged features, video first, as the released benchmark code does.

    Args:
        audio: (B, Da).
        video: (B, Dv).
        unit: give each row unit length.

    Returns:
        (B, Dv + Da).

    Example:
        >>> concatenated(torch.tensor([[3.0]]), torch.tensor([[4.0]]), unit=True)
        tensor([[0.8000, 0.6000]])
    """
    joint = torch.cat([video, audio], dim=1)
    return F.normalize(joint, dim=1) if unit else joint
