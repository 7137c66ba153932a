"""One input of the transformer: the tokens of B clips, laid out in rows for attention.

The plain layout has a row per clip: its class token, its steps, then padding. ``packing.py`` builds it, or a
denser one in which short clips share a row; this file only knows where the tokens are. Sizes are read by
``shape``, as exporters make a constant of ``len``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Tokens in R rows of L places; the places of one row follow those of the row before.

    Attributes:
        values: (R * L, D), zeros at places without a token.
        slots: (M,) place of each of the M tokens, the B class tokens first, then the steps.
        mask: (R, 1, 1 or L, L) bool, True where the token of a place may attend to the token of another one.
        clips: B.
        cells: (B,) flat index of each clip: row x clips_a_row + position in the row.
        clips_a_row: the most clips that share a row.
        uniform: attend to all visible tokens equally, in place of softmax attention.
    """

    values: Tensor
    slots: Tensor
    mask: Tensor
    clips: int
    cells: Tensor
    clips_a_row: int = 1
    uniform: bool = False

    @classmethod
    def whole(cls, values: Tensor) -> Tokens:
        """Lay out (B, L, D): L tokens per clip, its class token first, that all see each other."""
        clips, length, _ = values.shape
        places = torch.arange(clips * length, device=values.device).view(clips, length)
        mask = torch.ones(clips, 1, 1, length, dtype=torch.bool, device=values.device)
        return cls(values.flatten(0, 1), places.t().flatten(), mask, clips, places[:, 0] // length)

    @property
    def rows(self) -> int:
        """R."""
        return self.mask.shape[0]

    @property
    def length(self) -> int:
        """L."""
        return self.mask.shape[-1]

    def in_rows(self, values: Tensor) -> Tensor:
        """(R * L, N) -> (R, L, N)."""
        return values.view(self.rows, self.length, -1)

    def in_heads(self, values: Tensor, head_width: int) -> Tensor:
        """(R * L, H * d) -> (R, H, L, d) for heads of width d."""
        return values.view(self.rows, self.length, -1, head_width).transpose(1, 2)

    def packed(self) -> Tensor:
        """(M, D): the tokens without padding, in the order of ``slots``."""
        return take_rows(self.values, self.slots)

    def laid_out(self, packed: Tensor) -> Tensor:
        """(M, N) -> (R * L, N): the reverse of ``packed``, for any width."""
        return put_rows(packed, self.slots, self.rows * self.length)

    def class_rows(self, values: Tensor) -> Tensor:
        """(R * L, D) -> (B, D): those of the class tokens."""
        return take_rows(values, self.slots[: self.clips])

    @property
    def class_mask(self) -> Tensor:
        """(B, L) bool: the places of its row that each class token may attend to."""
        if self.mask.shape[2] == 1:
            return self.mask[:, 0, 0]
        return self.mask.flatten(0, 2).index_select(0, self.slots[: self.clips])

    def rows_of_clips(self, of_clips: Tensor) -> Tensor:
        """(B, H, N) -> (R, clips_a_row * H, N): those of a row's clips together, zeros where it has fewer."""
        cells = put_rows(of_clips.flatten(1), self.cells, self.rows * self.clips_a_row)
        return cells.view(self.rows, self.clips_a_row * of_clips.shape[1], -1)

    def clips_of_rows(self, of_rows: Tensor, heads: int) -> Tensor:
        """(R, clips_a_row * H, N) -> (B, H, N): the reverse of ``rows_of_clips``."""
        cells = of_rows.reshape(self.rows * self.clips_a_row, -1)
        return take_rows(cells, self.cells).unflatten(1, (heads, -1))


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
