"""DeViSE, ALE and SJE: one bilinear compatibility between a clip and a class vector, three ranking losses.

DeViSE: Frome et al., NeurIPS 2013. ALE: Akata et al., Label-embedding for image classification, TPAMI 2016.
SJE: Akata et al., Evaluation of output embeddings for fine-grained image classification, CVPR 2015,
https://doi.org/10.1109/CVPR.2015.7298911. As set up for audio and video by the benchmark of AVCA (CVPR 2022).

With x = (video, audio), the averages over time, W the class vectors and s_ij = (B x_i)^T w_j, a clip costs

    DeViSE: sum_j c_ij    SJE: max_j c_ij    ALE: H(r_i) / r_i * sum_j c_ij
    c_ij = max(0, margin + s_ij - s_iy) for j other than its class y

where r_i counts the positive c_ij and H(r) = 1 + 1/2 + ... + 1/r. Training applies dropout to x and W.

Inference, variant ``corrected``: the class of the largest s, so the distance is -s. Variant ``published``:
the class whose vector is nearest (L2) to B x, although dot products were trained. The SACMA paper gives none
of this; margin, dropout and schedule are those of AVCA's released run scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from sacma.models import losses
from sacma.models.base import Method
from sacma.models.configs.averages import BilinearConfig
from sacma.models.layers import Dropout, Linear, concatenated
from sacma.types import Batch, ClassSet


class Bilinear(Method):
    """The network of all three; ``RANKING`` is the loss that differs."""

    Config = BilinearConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {"score": "euclidean"},
    }
    RANKING: ClassVar[losses.Ranking]
    temporal = False
    config: BilinearConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.bilinear = Linear(c.video_width + c.audio_width, c.text_width, bias=False)
        self.dropout = Dropout(c.dropout)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The ranking loss, the only term."""
        cost = losses.ranking(
            self.scores(batch, classes), batch.labels, kind=self.RANKING, margin=self.config.margin
        )
        return {"ranking": cost}

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """Negative score, or distance (L2) of B x to each class vector, (B, K)."""
        return -(clips @ classes.T) if self.config.score == "product" else super().compare(clips, classes)

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """B x, (B, E)."""
        joint = concatenated(*self.averaged(batch), unit=self.config.norm_inputs)
        return self.bilinear(self.dropout(joint))

    def scores(self, batch: Batch, classes: ClassSet) -> Tensor:
        """s, (B, K); larger is better."""
        return self.embed_clips(batch) @ self.dropout(classes.vectors).T


class DeViSE(Bilinear):
    """All violations of the margin count."""

    RANKING = "devise"


class ALE(Bilinear):
    """A violation weighs more the higher the right class ranks."""

    RANKING = "ale"


class SJE(Bilinear):
    """Only the worst violation counts."""

    RANKING = "sje"
