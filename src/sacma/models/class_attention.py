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

from sacma.models.tokens import Tokens


def by_input(rows: Tensor, inputs: Sequence[Tokens]) -> Sequence[Tensor]:
    """Split (M, D) rows of all inputs, one input after another; spare rows at the end are dropped."""
    sizes = [tokens.values.shape[0] for tokens in inputs]
    return rows.split([*sizes, rows.shape[0] - sum(sizes)])[:-1]


def class_rows(rows: Tensor, inputs: Sequence[Tokens]) -> Tensor:
    """(M, D) rows of all inputs -> (len(inputs) * B, D), those of the class tokens."""
    parts = zip(by_input(rows, inputs), inputs, strict=True)
    return torch.cat([tokens.class_rows(part) for part, tokens in parts])


def class_weights(normed: Tensor, queries: Tensor, to_keys: Tensor, inputs: Sequence[Tokens]) -> list[Tensor]:
    """Attention weights of the class tokens.

    Args:
        normed: (M, D) rows of all inputs after the layer's norm.
        queries: (len(inputs) * B, H * d), of the class tokens.
        to_keys: (H, d, D), W_k.
        inputs: the inputs.

    Returns:
        For each input (B, H, L): weights of the places of the clip's row, which sum to 1.
    """
    heads = to_keys.shape[0]
    by_head = queries.unflatten(1, (heads, -1)).transpose(0, 1)  # (H, len(inputs) * B, d)
    asked = ((by_head @ to_keys) / math.sqrt(by_head.shape[2])).transpose(0, 1)  # (len(inputs) * B, H, D)
    found = []
    clips = [tokens.clips for tokens in inputs]
    for q, rows, tokens in zip(asked.split(clips), by_input(normed, inputs), inputs, strict=True):
        scores = tokens.rows_of_clips(q) @ tokens.in_rows(rows).transpose(1, 2)  # (R, clips_a_row * H, L)
        scores = tokens.clips_of_rows(scores, heads).float()  # (B, H, L)
        if tokens.uniform:
            scores = torch.zeros_like(scores)
        hidden = ~tokens.class_mask[:, None]
        found.append(scores.masked_fill(hidden, -math.inf).softmax(dim=-1))
    return found


def read_by_classes(
    weights: Sequence[Tensor], normed: Tensor, to_values: Tensor, inputs: Sequence[Tokens]
) -> Tensor:
    """Means that the class tokens read.

    Args:
        weights: for each input (B, H, L), from ``class_weights``.
        normed: (M, D) rows of all inputs after the layer's norm.
        to_values: (H, d, D), W_v.
        inputs: the inputs.

    Returns:
        (len(inputs) * B, H * d), all heads beside each other.
    """
    heads, read = to_values.shape[0], []
    for of_clips, rows, tokens in zip(weights, by_input(normed, inputs), inputs, strict=True):
        of_rows = tokens.rows_of_clips(of_clips.to(rows.dtype))  # (R, clips_a_row * H, L)
        read.append(tokens.clips_of_rows(of_rows @ tokens.in_rows(rows), heads))  # (B, H, D)
    values = torch.cat(read).transpose(0, 1) @ to_values.transpose(1, 2)  # (H, len(inputs) * B, d)
    return values.transpose(0, 1).flatten(1)
