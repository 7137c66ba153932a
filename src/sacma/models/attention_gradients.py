"""Attention of all inputs in float32 on processors, with gradients that are written where they are wanted.

PyTorch's own backward pass of the same kernel makes the gradients of keys and of values apart, puts them side
by side, lays them out in rows and joins those of all inputs: three copies, where one does. Results are those
of ``F.scaled_dot_product_attention`` to the last bit: ``test_attention_gradients.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sacma.models.tokens import Tokens

_KERNEL, _BACKWARD = "_scaled_dot_product_flash_attention_for_cpu", "backward"
_HAS_KERNEL = all(hasattr(torch.ops.aten, name) for name in (_KERNEL, f"{_KERNEL}_{_BACKWARD}"))


def takes(queries: Tensor) -> bool:
    """True where gradients are wanted and PyTorch would take the same kernel."""
    plain = queries.dtype == torch.float32 and queries.device.type == "cpu"
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return _HAS_KERNEL and plain and queries.requires_grad and not traced and not _empty(queries)


def _empty(rows: Tensor) -> bool:
    return not rows.numel()


def attended(
    queries: Tensor, keys_values: Tensor, inputs: Sequence[Tokens], head_width: int
) -> Sequence[Tensor]:
    """Attention within the rows of each input.

    Args:
        queries: (M, H * d) of all inputs, one input after another, and spare rows.
        keys_values: (M, 2 * H * d), keys first.
        inputs: where the tokens are and what they may attend to.
        head_width: d.

    Returns:
        For each input (R * L, H * d).
    """
    read: Sequence[Tensor] = _Attended.apply(queries, keys_values, inputs, head_width)
    return read


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys_values: Tensor, inputs: Sequence[Tokens], head_width: int
    ) -> tuple[Tensor, ...]:
        ctx.inputs, ctx.head_width = inputs, head_width
        kept, read = [], []
        for tokens, q, k, v in _by_head(queries, keys_values, inputs, head_width):
            hidden = torch.zeros(tokens.mask.shape).masked_fill_(~tokens.mask, -math.inf)
            asked = torch.zeros_like(q) if tokens.uniform else q
            kernel = getattr(torch.ops.aten, _KERNEL)
            out, scale = kernel(asked, k, v, 0.0, False, attn_mask=hidden)
            kept += [hidden, out, scale]
            read.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
        ctx.save_for_backward(queries, keys_values, *kept)
        return tuple(read)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, keys_values, *kept = ctx.saved_tensors
        kernel = getattr(torch.ops.aten, f"{_KERNEL}_{_BACKWARD}")
        for_queries, for_keys_values = (
            queries.new_empty(queries.shape),
            keys_values.new_empty(keys_values.shape),
        )
        used = sum(tokens.rows * tokens.length for tokens in ctx.inputs)
        for_queries[used:] = 0
        for_keys_values[used:] = 0
        sources = _by_head(queries, keys_values, ctx.inputs, ctx.head_width)
        targets = _by_head(for_queries, for_keys_values, ctx.inputs, ctx.head_width)
        for number, ((tokens, q, k, v), (_, *written)) in enumerate(zip(sources, targets, strict=True)):
            hidden, out, scale = kept[3 * number : 3 * number + 3]
            of_out = tokens.in_heads(gradients[number], ctx.head_width)
            asked = torch.zeros_like(q) if tokens.uniform else q
            found = kernel(of_out, asked, k, v, out, scale, 0.0, False, attn_mask=hidden)
            for target, one in zip(written, found, strict=True):
                target.copy_(one)
            if tokens.uniform:
                written[0].zero_()
        return for_queries, for_keys_values, None, None


def _by_head(queries: Tensor, keys_values: Tensor, inputs: Sequence[Tokens], head_width: int) -> Any:
    """Yield for each input its tokens and views (R, H, L, d) of its queries, keys and values."""
    begin = 0
    for tokens in inputs:
        end = begin + tokens.rows * tokens.length
        k, v = tokens.in_heads(keys_values[begin:end], head_width).chunk(2, dim=1)
        yield tokens, tokens.in_heads(queries[begin:end], head_width), k, v
        begin = end
