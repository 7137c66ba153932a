"""Attention of the class tokens alone: all that the last layer is asked for.

A clip then has a single query, so keys and values need not be computed for all tokens. With query q and
tokens x_i of its row, q (W_k x_i) = (q W_k) x_i and sum_i p_i W_v x_i = W_v sum_i p_i x_i: W_k is applied to
the query and W_v to the mean that it reads. ``test_trunk_is_what_its_layers_say`` in ``test_transformer.py``
compares it with layers that attend everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sacma.models.tokens import Block, Tokens, put_rows, take_rows


def blocks_of(inputs: Sequence[Tokens]) -> list[Block]:
    """The blocks of all inputs, one input after another."""
    return [block for tokens in inputs for block in tokens.blocks]


def by_block(rows: Tensor, inputs: Sequence[Tokens]) -> Sequence[Tensor]:
    """Split (M, D) rows of all inputs, one block after another; spare rows at the end are dropped."""
    return _split(rows, [block.places for block in blocks_of(inputs)])


def class_rows(rows: Tensor, inputs: Sequence[Tokens]) -> Tensor:
    """(M, D) rows of all inputs -> (len(inputs) * B, D), those of the class tokens."""
    parts = _split(rows, [tokens.values.shape[0] for tokens in inputs])
    return torch.cat([tokens.class_rows(part) for part, tokens in zip(parts, inputs, strict=True)])


def class_weights(normed: Tensor, queries: Tensor, to_keys: Tensor, inputs: Sequence[Tokens]) -> list[Tensor]:
    """Attention weights of the class tokens.

    Args:
        normed: (M, D) rows of all inputs after the layer's norm.
        queries: (len(inputs) * B, H * d), of the class tokens.
        to_keys: (H, d, D), W_k.
        inputs: the inputs.

    Returns:
        For each block (R, C, H, L): weights of the places of the row for each of its cells, which sum to 1.
    """
    heads = to_keys.shape[0]
    by_head = queries.unflatten(1, (heads, -1)).transpose(0, 1)  # (H, len(inputs) * B, d)
    asked = ((by_head @ to_keys) / math.sqrt(by_head.shape[2])).transpose(0, 1)  # (len(inputs) * B, H, D)
    blocks = blocks_of(inputs)
    sizes = [block.cells for block in blocks]
    asking = put_rows(asked.flatten(1), _cells(inputs), sum(sizes)).split(sizes)
    found = []
    for q, rows, block in zip(asking, by_block(normed, inputs), blocks, strict=True):
        of_rows = q.view(block.rows, -1, rows.shape[1])  # (R, C * H, D)
        scores = (of_rows @ block.in_rows(rows).transpose(1, 2)).float()  # (R, C * H, L)
        scores = scores.unflatten(1, (-1, heads))
        if block.uniform:
            scores = torch.zeros_like(scores)
        hidden = ~block.class_mask[:, :, None]
        found.append(scores.masked_fill(hidden, -math.inf).softmax(dim=-1))
    return found


def read_by_classes(
    weights: Sequence[Tensor], normed: Tensor, to_values: Tensor, inputs: Sequence[Tokens]
) -> Tensor:
    """Means that the class tokens read.

    Args:
        weights: for each block (R, C, H, L), from ``class_weights``.
        normed: (M, D) rows of all inputs after the layer's norm.
        to_values: (H, d, D), W_v.
        inputs: the inputs.

    Returns:
        (len(inputs) * B, H * d), all heads beside each other.
    """
    heads, read = to_values.shape[0], []
    for of_cells, rows, block in zip(weights, by_block(normed, inputs), blocks_of(inputs), strict=True):
        means = of_cells.to(rows.dtype).flatten(1, 2) @ block.in_rows(rows)  # (R, C * H, D)
        read.append(means.view(block.cells, -1))
    means = take_rows(torch.cat(read), _cells(inputs)).unflatten(1, (heads, -1))  # (len(inputs) * B, H, D)
    values = means.transpose(0, 1) @ to_values.transpose(1, 2)  # (H, len(inputs) * B, d)
    return values.transpose(0, 1).flatten(1)


def _split(rows: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """Rows in parts of these sizes; what is left at the end is dropped."""
    return rows.split([*sizes, rows.shape[0] - sum(sizes)])[:-1]


def _cells(inputs: Sequence[Tokens]) -> Tensor:
    """(len(inputs) * B,) cell of each clip of each input, numbered over all inputs."""
    cells, before = [], 0
    for tokens in inputs:
        cells.append(tokens.cells + before)
        before += sum(block.cells for block in tokens.blocks)
    return torch.cat(cells)
