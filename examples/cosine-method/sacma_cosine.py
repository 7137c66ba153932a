"""Cosine: a linear map of averaged features, trained to point where the class vector does.

With x = (video, audio), the averages over time, and w the class vector, l = 1 - cos(B x, w). A clip gets the
class with the largest cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from sacma.models import losses
from sacma.models.base import Method
from sacma.models.configs.base import MethodConfig
from sacma.models.layers import concatenated
from sacma.types import Batch, ClassSet


class Cosine(Method):
    """One matrix."""

    @dataclass(frozen=True, kw_only=True)
    class Config(MethodConfig):
        """Hyperparameters of Cosine.

        Attributes:
            dropout: on the joint features, in training.
        """

        dropout: float = 0.1

    temporal = False
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"small": {"learning_rate": 3e-3}}
    config: Config

    def __init__(self, **hyperparameters: object) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.map = nn.Linear(c.video_width + c.audio_width, c.text_width, bias=False)
        self.dropout = nn.Dropout(c.dropout)

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """B x, (B, E)."""
        return self.map(self.dropout(concatenated(*self.averaged(batch), unit=False)))

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The cosine distance, alone."""
        return {"cosine": losses.cosine_distance_loss(self.embed_clips(batch), batch.text)}

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """(B, E) and (K, E) -> (B, K): 1 - cosine."""
        return 1 - F.normalize(clips, dim=1) @ F.normalize(classes, dim=1).T
