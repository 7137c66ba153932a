"""APN on averaged audio and video: the attribute prototype network without its image maps.

Xu et al., Attribute prototype network for zero-shot learning, NeurIPS 2020 (IJCV 2022). The benchmark of AVCA
(CVPR 2022) applies it to vectors: an image map of one position, so that max-pooling is the identity.

With x = (video, audio), the averages over time, f = P x, q = Q x, W the class vectors and w that of the clip,

    l = CE(f W^T, y) + MSE(f, w) + CE(q W^T, y) + MSE(q, w)

A clip gets the class whose vector is nearest (L2) to f; q is trained too and does not score. In variant
``published`` the logits of the cross-entropy are softmax(f W^T); this second softmax flattens the gradient.
The SACMA paper gives none of this; initialisation and schedule are those of AVCA's released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from sacma.models import losses
from sacma.models.base import Method
from sacma.models.configs.averages import APNConfig
from sacma.models.layers import Linear, concatenated
from sacma.types import Batch, ClassSet

INITIAL_SCALE = 2e-4


class APN(Method):
    """Two linear maps to the space of the class vectors."""

    Config = APNConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {"cross_entropy": "probabilities"},
    }
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        "ALE_vector": "attributes.weight",
        "prototype_vectors.layer4": "prototypes.weight",
    }
    temporal = False
    config: APNConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.attributes = Linear(c.video_width + c.audio_width, c.text_width, bias=False)  # P
        self.prototypes = Linear(c.video_width + c.audio_width, c.text_width, bias=False)  # Q
        for weight in (self.attributes.weight, self.prototypes.weight):
            nn.init.uniform_(weight, 0, INITIAL_SCALE)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Cross-entropy and regression of f (attributes) and q (prototypes)."""
        joint = self._joint(batch)
        terms: dict[str, Tensor] = {}
        for name, embedding in (
            ("attributes", self.attributes(joint)),
            ("prototypes", self.prototypes(joint)),
        ):
            logits = embedding @ classes.vectors.T  # (B, K)
            if self.config.cross_entropy == "probabilities":
                logits = logits.softmax(dim=1)
            terms[f"cross_entropy_{name}"] = F.cross_entropy(logits, batch.labels)
            terms[f"regression_{name}"] = losses.regression(embedding, batch.text)
        return terms

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, E): f, whose distance (L2) to the class vectors scores."""
        return self.attributes(self._joint(batch))

    def _joint(self, batch: Batch) -> Tensor:
        return concatenated(*self.averaged(batch), unit=self.config.norm_inputs)

    @classmethod
    def rename_published(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate keys to ours; the released weights are convolutions of one position."""
        renamed = super().rename_published(state)
        return {key: value.flatten(1) if value.ndim == 4 else value for key, value in renamed.items()}
