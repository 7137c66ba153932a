"""Perceiver: learned latents read the steps of both modalities by cross-attention, with TCAF's loss.

Jaegle et al., "Perceiver: general perception with iterative attention", ICML 2021,
https://arxiv.org/abs/2103.03206, as a baseline of TCAF (ECCV 2022, https://arxiv.org/abs/2207.09966). No
code of that baseline is public; this is our reading. In each of ``depth`` blocks the latents Z attend to the
steps X (encoded and placed in time as in TCAF), then to each other:

    Z <- Z + CA(LN(Z), LN(X)),   Z <- Z + FF(LN(Z)),   Z <- Z + SA(LN(Z)),   Z <- Z + FF(LN(Z)),

The mean of the latents takes the place of TCAF's class token: projections, loss and the nearest class (L2)
are TCAF's. No paper gives the number of latents, nor that the blocks do not share weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sacma.models.configs.sequences import PerceiverConfig
from sacma.models.layers import Dropout, Linear
from sacma.models.packing import join
from sacma.models.tcaf import StepsMethod, TextSpace
from sacma.models.tokens import Tokens
from sacma.models.transformer import TransformerLayer, attention, feed_forward
from sacma.types import Batch


class CrossAttention(nn.Module):
    """Latents attend to tokens, then a feed-forward block; both pre-norm and residual.

    Args:
        width: D, of latents and tokens.
        heads: number of heads.
        head_width: width of a head.
        hidden: width between the two linear layers of the feed-forward block.
        dropout: probability, after attention and twice in the feed-forward block.
    """

    def __init__(self, width: int, *, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.token_norm, self.second_norm = (nn.LayerNorm(width) for _ in range(3))
        self.to_queries = Linear(width, heads * head_width, bias=False)
        self.to_keys_values = Linear(width, 2 * heads * head_width, bias=False)
        self.out = nn.Sequential(Linear(heads * head_width, width), Dropout(dropout))
        self.feed_forward = feed_forward(width, hidden, dropout)

    def forward(self, latents: Tensor, tokens: Tokens) -> Tensor:
        """(B, N, D) latents and the tokens of B clips -> (B, N, D)."""
        queries = self.to_queries(self.norm(latents)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        packed = self.to_keys_values(self.token_norm(tokens.packed()))  # (M, 2 * H * d)
        (block,) = tokens.blocks
        rows = block.in_heads(tokens.laid_out(packed), self.to_keys_values.out_features // (2 * self.heads))
        keys, values = rows.chunk(2, dim=1)  # (B, H, L, d)
        read = attention(queries, keys, values, block.mask)
        latents = latents + self.out(read.transpose(1, 2).flatten(2))
        return latents + self.feed_forward(self.second_norm(latents))


class Perceiver(StepsMethod):
    """Latents that read the steps of a clip; their mean stands for the clip."""

    Config = PerceiverConfig

    config: PerceiverConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        # A token that every clip has: one without any step would have nothing to attend to.
        self.rest_token = nn.Parameter(0.02 * torch.randn(c.width))
        self.latents = nn.Parameter(0.02 * torch.randn(c.latents, c.width))
        sizes: dict[str, Any] = {
            "heads": c.heads,
            "head_width": c.head_width,
            "hidden": c.feed_forward_hidden,
            "dropout": c.transformer_dropout,
        }
        self.readers = nn.ModuleList(CrossAttention(c.width, **sizes) for _ in range(c.depth))
        self.thinkers = nn.ModuleList(
            TransformerLayer(c.width, **sizes, shared_norm=False) for _ in range(c.depth)
        )
        self.space = TextSpace(c)

    def fused(self, batch: Batch) -> Tensor:
        """The mean of the latents after the last block, (B, D)."""
        audio, video = self.encoded(batch)
        tokens = join(self.rest_token, [audio, video])
        latents = self.latents.expand(batch.labels.shape[0], -1, -1)  # (B, N, D)
        for read, think in zip(self.readers, self.thinkers, strict=True):
            latents = self._think(think, read(latents, tokens))
        return latents.mean(dim=1)

    def _think(self, layer: nn.Module, latents: Tensor) -> Tensor:
        tokens = Tokens.whole(latents)
        return layer(tokens.values, [tokens]).view_as(latents)
