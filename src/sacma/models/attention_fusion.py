"""Attention fusion: a learned attention weighs the two modalities, with TCAF's encoders and loss.

Fayek and Kumar, "Large scale audiovisual learning of sounds with weakly labeled data", IJCAI 2020,
https://arxiv.org/abs/2006.01595, as a baseline of TCAF (ECCV 2022, https://arxiv.org/abs/2207.09966). No code
of that baseline is public; this is our reading. With a and v the means over time of TCAF's encoded steps,

    alpha = sigmoid(MLP([a, v])),   c = alpha * v + (1 - alpha) * a,

with one weight per channel, as in Fayek and Kumar's fusion of class scores. c takes the place of TCAF's class
token: projections, loss and the nearest class (L2) are TCAF's. No paper gives the network of alpha.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sacma.models.configs.sequences import AttentionFusionConfig
from sacma.models.layers import Linear
from sacma.models.tcaf import StepsMethod, TextSpace
from sacma.types import Batch


class AttentionFusion(StepsMethod):
    """Mean over time per modality, then a convex combination per channel."""

    Config = AttentionFusionConfig

    config: AttentionFusionConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.attention = nn.Sequential(
            Linear(2 * c.width, c.attention_hidden), nn.ReLU(), Linear(c.attention_hidden, c.width)
        )
        self.space = TextSpace(c)

    def fused(self, batch: Batch) -> Tensor:
        """c, (B, D); for a clip that lacks one modality, the mean of the other."""
        audio, video = self.encoded(batch)
        a, v = audio.mean(), video.mean()
        alpha = self.attention(torch.cat([a, v], dim=1)).sigmoid()  # (B, D)
        alpha = alpha.masked_fill(audio.lengths[:, None] == 0, 1.0)
        alpha = alpha.masked_fill(video.lengths[:, None] == 0, 0.0)
        return alpha * v + (1 - alpha) * a
