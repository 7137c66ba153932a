"""The network that TCAF and SACMA share: encoded steps, a class token and one transformer for all inputs.

Sources: SACMA (Information Fusion 2025), equations (1) to (6), and TCAF (ECCV 2022).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sacma.models.configs.sequences import TrunkConfig
from sacma.models.packing import join
from sacma.models.shared_tokens import shared_tokens
from sacma.models.steps import StepEncoder
from sacma.models.tokens import Tokens
from sacma.models.transformer import JointAttention, Transformer
from sacma.types import Padded, Sequences


class Trunk(nn.Module):
    """The network that TCAF and SACMA share: encoded steps, a class token, one transformer. (1) to (6)

    Args:
        config: sizes and dropouts.
        shared_norm: one LayerNorm per layer, used twice, as released; else two.
    """

    def __init__(self, config: TrunkConfig, *, shared_norm: bool) -> None:
        super().__init__()
        c = config
        self.steps = StepEncoder(
            c.audio_width,
            c.video_width,
            c.width,
            hidden=c.encoder_hidden,
            dropout=c.encoder_dropout,
            position_dropout=c.position_dropout,
        )
        self.class_token = nn.Parameter(torch.randn(c.width))
        self.transformer = Transformer(
            c.width,
            depth=c.depth,
            heads=c.heads,
            head_width=c.head_width,
            hidden=c.feed_forward_hidden,
            dropout=c.transformer_dropout,
            shared_norm=shared_norm,
        )

    def forward(self, audio: Sequences, video: Sequences, **choices: Any) -> dict[str, Tensor]:
        """The class token of each asked input after the last layer, (B, D), by the letter of its stream.

        Args:
            audio: audio features.
            video: visual features.
            choices: see ``inputs``.
        """
        inputs = self.inputs(audio, video, share_rows=True, **choices)
        return self.transformer(inputs, None if isinstance(audio, Padded) else shared_tokens(inputs))

    def inputs(
        self,
        audio: Sequences,
        video: Sequences,
        *,
        streams: str = "m",
        attention: JointAttention = "cross",
        uniform: str = "",
        published_scaling: bool,
        with_padding: bool,
        share_rows: bool = False,
    ) -> dict[str, Tokens]:
        """Tokens of the asked inputs, by the letter of their stream.

        Args:
            audio: audio features.
            video: visual features.
            streams: of a (audio alone), v (video alone), m (both together).
            attention: who sees whom within m, see ``packing.join``.
            uniform: of a and v, those with the mean over the steps in place of attention.
            published_scaling: scale the inputs first, as released, see ``StepEncoder.forward``.
            with_padding: let padded steps into the encoders' batch statistics, as released.
            share_rows: let short clips share a row, see ``packing.join``.
        """
        a, v = self.steps(audio, video, published_scaling=published_scaling, with_padding=with_padding)
        return {
            s: join(
                self.class_token,
                {"a": [a], "v": [v], "m": [a, v]}[s],
                attention=attention if s == "m" else "both",
                uniform=s in uniform,
                share_rows=share_rows and not isinstance(audio, Padded),
            )
            for s in streams
        }
