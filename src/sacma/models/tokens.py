"""One input of the transformer: the tokens of B clips, laid out in rows for attention.

The plain layout has a row per clip: its class token, its steps, then padding. ``packing.py`` builds it, or a
denser one in which short clips share a row and rows are of several lengths; this file only knows where the
tokens are. Sizes are read by ``shape``, as exporters make a constant of ``len``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """R rows of L places, which attention reads together.

    A row has C cells, one for each of its clips; rows with fewer clips have empty cells.

    Attributes:
        mask: (R, 1, 1 or L, L) bool, True where the token of a place may attend to the token of another one.
        class_mask: (R, C, L) bool, True at the places that the class token of a cell may attend to; all of
            them for an empty cell.
        uniform: attend to all visible tokens equally, in place of softmax attention.
    """

    mask: Tensor
    class_mask: Tensor
    uniform: bool = False

    @property
    def rows(self) -> int:
        """R."""
        return self.mask.shape[0]

    @property
    def length(self) -> int:
        """L."""
        return self.mask.shape[-1]

    @property
    def places(self) -> int:
        """R * L."""
        return self.rows * self.length

    @property
    def cells(self) -> int:
        """R * C, the empty cells among them."""
        return self.class_mask.shape[0] * self.class_mask.shape[1]

    def in_rows(self, values: Tensor) -> Tensor:
        """(R * L, N) -> (R, L, N)."""
        return values.view(self.rows, self.length, -1)

    def in_heads(self, values: Tensor, head_width: int) -> Tensor:
        """(R * L, H * d) -> (R, H, L, d) for heads of width d."""
        return values.view(self.rows, self.length, -1, head_width).transpose(1, 2)


@dataclass(frozen=True)
class Tokens:
    """Tokens at P places: those of the rows of a block one row after another, then those of the next block.

    Attributes:
        values: (P, D), zeros at places without a token.
        slots: (M,) place of each of the M tokens, the B class tokens first, then the steps.
        cells: (B,) cell of each clip, numbered like the places.
        blocks: the rows.
    """

    values: Tensor
    slots: Tensor
    cells: Tensor
    blocks: Sequence[Block]

    @classmethod
    def whole(cls, values: Tensor) -> Tokens:
        """Lay out (B, L, D): L tokens per clip, its class token first, that all see each other."""
        clips, length, _ = values.shape
        places = torch.arange(clips * length, device=values.device).view(clips, length)
        visible = torch.ones(clips, 1, length, dtype=torch.bool, device=values.device)
        block = Block(visible[:, None], visible)
        return cls(values.flatten(0, 1), places.t().flatten(), places[:, 0] // length, [block])

    @property
    def clips(self) -> int:
        """B."""
        return self.cells.shape[0]

    def packed(self) -> Tensor:
        """(M, D): the tokens without padding, in the order of ``slots``."""
        return take_rows(self.values, self.slots)

    def laid_out(self, packed: Tensor) -> Tensor:
        """(M, N) -> (P, N): the reverse of ``packed``, for any width."""
        return put_rows(packed, self.slots, self.values.shape[0])

    def class_rows(self, values: Tensor) -> Tensor:
        """(P, D) -> (B, D): those of the class tokens."""
        return take_rows(values, self.slots[: self.clips])


def put_rows(rows: Tensor, slots: Tensor, count: int) -> Tensor:
    """(M, N) rows at M distinct ``slots`` of (count, N), zeros elsewhere.

    As ``index_copy``, which keeps a copy of the rows for backward; this keeps the slots alone.
    """
    placed: Tensor = _PutRows.apply(rows, slots, count)
    return placed


def take_rows(rows: Tensor, slots: Tensor) -> Tensor:
    """(count, N) -> (M, N): the rows at M distinct ``slots``.

    As ``index_select``, whose backward accumulates slowly because rows may repeat; this one copies.
    """
    taken: Tensor = _TakeRows.apply(rows, slots)
    return taken


class _PutRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(count, rows.shape[1]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (slots,) = ctx.saved_tensors
        return gradient.index_select(0, slots), None, None


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.count = rows.shape[0]
        return rows.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (slots,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.count, gradient.shape[1]).index_copy_(0, slots, gradient), None
