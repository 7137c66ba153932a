"""What the methods share: input scaling, linear layers, embedding networks, the encoder of steps.

Everything works on packed steps (``sacma.types.Sequences``): a linear layer never sees padding. Sizes are
read by ``shape``, as exporters make a constant of ``len``. Source of the encoder and its positions: TCAF
(ECCV 2022), from which SACMA takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.distributed import processes
from sacma.types import Sequences


class InputScaling(nn.Module):
    """Scales feature vectors: ``published`` leaves them to the method, ``standardise``, ``unit``.

    ``standardise`` uses the statistics given to ``fit``, which are saved with the weights.
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
        """Take mean and standard deviation of each channel of all training vectors; constants get 1.

        Args:
            parts: (N, D) each, so that not all have to be in memory at a time.
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
    """(M, K) rows, (N, K) weight, (N,) bias -> ``rows @ weight.T + bias`` and its gradients, by oneDNN."""

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


# PyTorch gives float32 products to MKL, which leaves half the width of AMD's vector units idle.
_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


class Linear(nn.Linear):
    """``nn.Linear`` with a faster float32 product on processors; it differs by rounding alone.

    What traces a network (export, compile) or runs it in another precision sees ``nn.Linear``.
    """

    def forward(self, values: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        if not _by_onednn(values) or not values.numel():
            return super().forward(values)
        rows = values.reshape(-1, self.in_features)
        spare = spare_rows(rows.shape[0], rows)
        padded = F.pad(rows, (0, 0, 0, spare)) if spare else rows
        if torch.is_autocast_enabled("cpu") or padded.dtype != torch.float32:
            products = super().forward(padded)
        else:
            products = _Product.apply(padded, self.weight, self.bias)
        return products[: rows.shape[0]].view(*values.shape[:-1], self.out_features)


def _by_onednn(values: Tensor) -> bool:
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return _ONEDNN and values.device.type == "cpu" and not traced


def spare_rows(count: int, like: Tensor) -> int:
    """How many rows to add to ``count``, at most a sixteenth, for sizes that recur.

    oneDNN compiles each new one. To compile a product takes as long as to run it once or twice.
    """
    return -count % max(16, 1 << max(count.bit_length() - 5, 0)) if _by_onednn(like) else 0


class _Drop(torch.autograd.Function):
    """``values * mask * scale`` for a mask of bytes, which is a quarter of what ``F.dropout`` keeps."""

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
    """``nn.Dropout`` that draws a byte for each value on processors, a tenth of the time.

    The probability is then the nearest multiple of 1/256 (not 0.3 but 77/256), and what is kept is divided by
    exactly the share that is kept. Draws follow torch's random state.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same."""
        dropped = round(256 * self.p)
        if not self.training or values.device.type != "cpu" or not 0 < dropped < 256:
            return super().forward(values)
        return _Drop.apply(values, _byte_mask(values.shape, dropped), 256 / (256 - dropped))


def _byte_mask(shape: torch.Size, dropped: int) -> Tensor:
    """uint8, 0 with a probability of ``dropped`` / 256 and else 1."""
    size = shape.numel()
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)  # all of its 64 bits
    draws = words.view(torch.uint8)[:size].view(shape)
    return draws.clamp_(dropped - 1, dropped).sub_(dropped - 1)


def normalise_over_time(sequences: Sequences) -> Sequences:
    """Scale each channel of a clip to unit length over the clip's steps, as TCAF and SACMA do with video."""
    square = sequences.values.new_zeros(sequences.lengths.shape[0], sequences.values.shape[1])
    norm = square.index_add(0, sequences.clip, sequences.values.square()).sqrt()
    return sequences.with_values(sequences.values / norm.clamp(min=1e-12)[sequences.clip])


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
    """(B, Dv + Da): video first, as in the released benchmark code; ``unit`` gives each row unit length."""
    joint = torch.cat([video, audio], dim=1)
    return F.normalize(joint, dim=1) if unit else joint


def encode_steps(net: nn.Module, sequences: Sequences, *, with_padding: bool = False) -> Tensor:
    """Apply ``net`` to each step, (N, D) -> (N, D').

    Args:
        net: a network of rows.
        sequences: N valid steps.
        with_padding: in training, let the zero rows of the padded batch into the BatchNorm statistics, as the
            released code does.
    """
    if with_padding and net.training and sequences.longest:
        rows = net(sequences.padded().flatten(0, 1))
        return rows[sequences.clip * sequences.longest + sequences.step]
    # BatchNorm would turn its running statistics into NaN on a batch without a single row.
    if sequences.longest == 0:
        return _no_rows(net, sequences.values)
    if sequences.values.shape[0] == 1 and net.training and processes() == 1:
        return _one_row(net, sequences.values)
    return net(sequences.values)


def _no_rows(net: nn.Module, values: Tensor) -> Tensor:
    width = [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    return values.new_zeros(0, width)


def _one_row(net: nn.Module, values: Tensor) -> Tensor:
    """A single row has no variance: it is normalised as in evaluation, and leaves the statistics alone."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]
    for norm in norms:
        norm.eval()
    try:
        rows: Tensor = net(values)
    finally:
        for norm in norms:
            norm.train()
    return rows


class Position(nn.Module):
    """Adds modality and time to each step (TCAF): concatenates an embedding and projects back to the width.

    The time t in seconds enters as sine and cosine of 2 pi t (r_0 + r_1), r fixed and random with deviation
    ``scale``, through a linear layer. The released code's embedding of padding touches padded steps
    alone and is left out.

    Args:
        width: D, of the steps.
        embedding: width of the embedding, even.
        scale: deviation of the random frequencies.
        dropout: probability, on the result.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, embedding: int = 64, scale: float = 10.0, dropout: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(2, embedding // 2))
        self.time = Linear(embedding, embedding)
        self.modality = nn.Embedding(2, embedding)
        self.project_audio = Linear(width + embedding, width)
        self.project_video = Linear(width + embedding, width)
        self.dropout = Dropout(dropout)

    def forward(self, audio: Sequences, video: Sequences) -> tuple[Sequences, Sequences]:
        """Steps of width D to steps of width D, with the time of each step read from ``seconds``."""
        return (
            audio.with_values(self._place(audio, 0, self.project_audio)),
            video.with_values(self._place(video, 1, self.project_video)),
        )

    def _place(self, sequences: Sequences, modality: int, project: nn.Module) -> Tensor:
        angle = 2 * math.pi * sequences.seconds[:, None] * self.frequencies.sum(0)  # (N, 32)
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))  # (N, 64)
        placed = project(torch.cat([sequences.values, time + self.modality.weight[modality]], dim=-1))
        return self.dropout(placed)


class StepEncoder(nn.Module):
    """What TCAF and SACMA do to each step: the encoders A_enc and V_enc, then modality and time. (1)

    Args:
        audio_width: of an audio feature vector.
        video_width: of a visual feature vector.
        width: D, of a token.
        hidden: hidden width of both encoders.
        dropout: in the encoders.
        position_dropout: after the positions are added.
    """

    def __init__(
        self,
        audio_width: int,
        video_width: int,
        width: int,
        *,
        hidden: int,
        dropout: float,
        position_dropout: float,
    ) -> None:
        super().__init__()
        self.audio = EmbeddingNet(audio_width, width, hidden=hidden, dropout=dropout)
        self.video = EmbeddingNet(video_width, width, hidden=hidden, dropout=dropout)
        self.position = Position(width, dropout=position_dropout)

    def forward(
        self, audio: Sequences, video: Sequences, *, published_scaling: bool, with_padding: bool
    ) -> tuple[Sequences, Sequences]:
        """Feature vectors to tokens of width D.

        Args:
            audio: audio features.
            video: visual features.
            published_scaling: first divide audio by 255 and ``normalise_over_time`` video, as released.
            with_padding: let padded steps into the encoders' batch statistics, as released.
        """
        if published_scaling:
            audio = audio.with_values(audio.values / 255)
            video = normalise_over_time(video)
        return self.position(
            audio.with_values(encode_steps(self.audio, audio, with_padding=with_padding)),
            video.with_values(encode_steps(self.video, video, with_padding=with_padding)),
        )
