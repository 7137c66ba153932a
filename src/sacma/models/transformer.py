"""The masked transformer that TCAF and SACMA share: attention, masks and the class token.

An input is, for each clip, a learned class token C followed by steps of the clip: of its audio (a), of its
video (v) or of both (m). In each of L layers every token attends to the tokens that a mask lets it see,

    x <- x + W_o softmax(Q K^T / sqrt(d)) V,    x <- x + FF(LN(x)),    Q, K, V from LN(x)         (3) to (6)

and after the last one C stands for the clip. With cross-modal attention the steps of m see C and the steps of
the other modality, never their own; C sees all and is seen by all. For two audio and three video steps:

          C a a v v v
      C   x x x x x x
      a   x . . x x x
      a   x . . x x x
      v   x x x . . .
      v   x x x . . .
      v   x x x . . .

This file has the idea. Savings of time and memory stand in files of their own that name their equivalence
test: short clips share rows of attention (``packing.py``), LayerNorm outputs are recomputed in backward
(``recomputation.py``), the last layer attends with the class tokens alone (``class_attention.py``). The
inputs go through the same layers, so their rows stand one after another in one (M, D) tensor.

Sources: SACMA (Information Fusion 2025), equations (1) to (6), and TCAF (ECCV 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sacma.models.class_attention import blocks_of, by_block, class_rows, class_weights, read_by_classes
from sacma.models.layers import Dropout, Linear, linear, spare_rows
from sacma.models.recomputation import recomputed
from sacma.models.shared_tokens import Shared
from sacma.models.tokens import Tokens

JointAttention = Literal["cross", "within", "both"]

# Longer rows of scores are not kept in memory.
LONGEST_OPEN = 160


def may_attend(kind: Tensor, attention: JointAttention) -> Tensor:
    """Mask of the joint input.

    Args:
        kind: (..., L) integers, 0 for a class token, then 1, 2, ... for the steps of each modality.
        attention: ``cross`` lets a step see the class token and the steps of the other modality (3);
            ``within`` the class token and those of its own; ``both`` all.

    Returns:
        (..., L, L) bool, True where a token (row) may attend to a token (column). The class token sees all.

    Example:
        >>> may_attend(torch.tensor([0, 1, 2]), "cross").int()
        tensor([[1, 1, 1],
                [1, 0, 1],
                [1, 1, 0]], dtype=torch.int32)
    """
    row, column = kind[..., None], kind[..., None, :]
    same = row == column
    if attention == "both":
        return torch.ones_like(same)
    linked = ~same if attention == "cross" else same | (column == 0)
    return linked | (row == 0)


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention of each head, (3): (B, H, Q, d), (B, H, L, d) twice -> (B, H, Q, d).

    PyTorch's kernel, save for bfloat16 on processors: there its backward pass takes several times as long as
    in float32, and short sequences are faster yet as products in bfloat16 around a softmax in float32.

    Args:
        queries: of each token that asks.
        keys: of each token that is asked.
        values: likewise.
        mask: bool, broadcast to (B, H, Q, L); True where a row may attend to a column.
    """
    if queries.dtype != torch.bfloat16 or queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    if keys.shape[2] > LONGEST_OPEN:
        with torch.autocast("cpu", enabled=False):
            wide = F.scaled_dot_product_attention(
                queries.float(), keys.float(), values.float(), attn_mask=mask
            )
        return wide.to(queries.dtype)
    hidden = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf)
    scores = (queries @ keys.contiguous().transpose(2, 3)).float()  # (B, H, Q, L)
    scores = scores.mul_(1 / math.sqrt(queries.shape[3])).add_(hidden)
    return scores.softmax(dim=-1).to(values.dtype) @ values


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """(..., D) -> (..., D) through ``hidden`` units."""
    return nn.Sequential(
        Linear(width, hidden), nn.GELU(), Dropout(dropout), Linear(hidden, width), Dropout(dropout)
    )


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward block, (3) to (6).

    Args:
        width: D.
        heads: number of heads.
        head_width: width of a head; heads * head_width need not be D.
        hidden: width between the two linear layers of the feed-forward block.
        dropout: probability, after attention and twice in the feed-forward block.
        shared_norm: one LayerNorm used twice, as in the released code.
    """

    def __init__(
        self, width: int, *, heads: int, head_width: int, hidden: int, dropout: float, shared_norm: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.second_norm = None if shared_norm else nn.LayerNorm(width)
        self.to_queries = Linear(width, heads * head_width, bias=False)
        self.to_keys_values = Linear(width, 2 * heads * head_width, bias=False)
        self.out = Linear(heads * head_width, width)
        self.dropout = Dropout(dropout)
        self.feed_forward = feed_forward(width, hidden, dropout)

    def forward(
        self, x: Tensor, inputs: Sequence[Tokens], *, class_only: bool = False, shared: Shared | None = None
    ) -> Tensor:
        """Run the layer on the tokens of all inputs.

        Args:
            x: (M, D) rows of all inputs, one input after another; rows after them are carried along and not
                read.
            inputs: where the tokens are and what they may attend to.
            class_only: compute the class tokens alone, all that the last layer is asked for.
            shared: the same tokens, each once, where this is the first layer.

        Returns:
            (M, D), or (len(inputs) * B, D) with ``class_only``.
        """
        if class_only:
            read = self._attend_with_class_tokens(x, inputs)
            x = class_rows(x, inputs)
        else:
            read = self._attend(x, inputs, shared)
        x = x + self.dropout(read)
        first, *others = self.feed_forward
        with recomputed(self.norm if self.second_norm is None else self.second_norm, x) as normed:
            hidden = first(normed)
        for layer in others:
            hidden = layer(hidden)
        return x + hidden

    def class_attention(self, x: Tensor, inputs: Sequence[Tokens]) -> list[Tensor]:
        """Attention weights of the class tokens, the mean over heads.

        Returns:
            For each input, of one block each, (B, L): weights of the places of the clip's row. They sum to 1;
            places of padding and of other clips have 0.
        """
        normed = self.norm(x)
        to_keys, _ = self._key_value_weights()
        queries = self.to_queries(class_rows(normed, inputs))
        weights = class_weights(normed, queries, to_keys, inputs)
        return [of_cells.mean(dim=2).flatten(0, 1) for of_cells in weights]

    def _attend(self, x: Tensor, inputs: Sequence[Tokens], shared: Shared | None) -> Tensor:
        """(M, D) -> (M, D): every token reads those that it may attend to. (3), (4)"""
        # Keys and values apart: the gradients of a product for both would be copied together first.
        weights = [self.to_queries.weight, *self.to_keys_values.weight.chunk(2)]
        with recomputed(self.norm, x if shared is None else shared.values) as normed:
            projected = [linear(normed, weight) for weight in weights]
        if shared is not None:
            projected = [shared.spread(rows) for rows in projected]
        head_width = self.to_queries.out_features // self.heads
        read = []
        for *of_block, block in zip(
            *(by_block(rows, inputs) for rows in projected), blocks_of(inputs), strict=True
        ):
            q, k, v = (block.in_heads(rows, head_width) for rows in of_block)  # (R, H, L, d)
            if block.uniform:
                q = torch.zeros_like(q)
            attended = attention(q, k, v, block.mask).transpose(1, 2)  # (R, L, H, d)
            # Block by block: to put them together first would keep a copy of them all for the backward pass.
            read.append(self.out(attended.flatten(0, 1).flatten(1)))
        spare = x.shape[0] - sum(tokens.values.shape[0] for tokens in inputs)
        return torch.cat([*read, read[0].new_zeros(spare, read[0].shape[1])])

    def _attend_with_class_tokens(self, x: Tensor, inputs: Sequence[Tokens]) -> Tensor:
        """(M, D) -> (len(inputs) * B, D): as ``_attend``, for the class tokens alone."""
        normed = self.norm(x)
        to_keys, to_values = self._key_value_weights()
        queries = self.to_queries(class_rows(normed, inputs))
        weights = class_weights(normed, queries, to_keys, inputs)
        return self.out(read_by_classes(weights, normed, to_values, inputs))

    def _key_value_weights(self) -> tuple[Tensor, Tensor]:
        """W_k and W_v, (H, d, D) each."""
        to_keys, to_values = self.to_keys_values.weight.unflatten(0, (2, self.heads, -1))
        return to_keys, to_values


class Transformer(nn.Module):
    """L layers shared by all inputs; their matrix products run over the tokens of all inputs at once.

    Args:
        width: D.
        depth: number of layers, at least 1.
        layer: keyword arguments of ``TransformerLayer``.

    Attributes:
        keeps_layers: keep what a layer computes for the backward pass; else only its input is kept, and the
            layer runs again in backward, with the same dropout. Results do not depend on it.
    """

    def __init__(self, width: int, *, depth: int, **layer: Any) -> None:
        super().__init__()
        self.keeps_layers = True
        self.layers = nn.ModuleList(TransformerLayer(width, **layer) for _ in range(depth))

    def forward(self, inputs: Mapping[str, Tokens], shared: Shared | None = None) -> dict[str, Tensor]:
        """Each input's class token after the last layer, (B, D), by the input's name.

        Args:
            inputs: tokens of B clips.
            shared: those that more than one input has.
        """
        tokens = list(inputs.values())
        values = self._rows(tokens)
        for number, layer in enumerate(self.layers, start=1):
            how: dict[str, Any] = {
                "class_only": number == len(self.layers),
                "shared": shared if number == 1 else None,
            }
            if self.keeps_layers or not torch.is_grad_enabled():
                values = layer(values, tokens, **how)
            else:
                values = checkpoint(layer, values, tokens, **how, use_reentrant=False)
        return dict(zip(inputs, values.split([one.clips for one in tokens]), strict=True))

    def class_attention(self, inputs: Mapping[str, Tokens]) -> dict[str, Tensor]:
        """Attention of each input's class token in the last layer, (B, L), by the input's name."""
        tokens = list(inputs.values())
        values = self._rows(tokens)
        for layer in self.layers[:-1]:
            values = layer(values, tokens)
        last = cast(TransformerLayer, self.layers[-1])
        return dict(zip(inputs, last.class_attention(values, tokens), strict=True))

    def _rows(self, tokens: Sequence[Tokens]) -> Tensor:
        """(M, D) the tokens of all inputs, and some spare rows."""
        parts = [one.values for one in tokens]
        spare = spare_rows(sum(part.shape[0] for part in parts), parts[0])
        return torch.cat([*parts, parts[0].new_zeros(spare, parts[0].shape[1])])


def save_memory(network: nn.Module) -> None:
    """Let the transformers in a network keep only the inputs of their layers for the backward pass."""
    for module in network.modules():
        if isinstance(module, Transformer):
            module.keeps_layers = False
