"""ClipClap: a small network on the embeddings of two frozen joint encoders, CLIP and CLAP.

Kurzendoerfer et al., "Audio-Visual Generalized Zero-Shot Learning using Pre-Trained Large Multi-Modal
Models", CVPR Workshops 2024, https://arxiv.org/abs/2404.06309; released code:
github.com/dkurzend/ClipClap-GZSL (MIT).

A clip is one vector a modality, a class the text embeddings of both encoders beside each other. With
x = (video, audio), w the class vector and E a round of Linear, BatchNorm, ReLU, Dropout,

    o = O_enc(x)              w' = W_enc(w)             one E each
    theta_o = O_proj(o)       theta_w = W_proj(w')      two E and one
    rho_o = D_o(theta_o)      rho_w = D_w(theta_w)      two E and one
    l = CE(theta_o . theta_W^T, label) + MSE(theta_o, theta_w) + MSE(w', rho_o) + MSE(w', rho_w)

where theta_W are all training classes. The gradient of a reconstruction also reaches w', its target. A clip
gets the class whose theta_w is nearest (L2) to its theta_o.

Variant ``published`` repeats the released code: a second forward pass after each step, which moves
BatchNorm's statistics, and a bias grid from 0 to 5. ``corrected`` has neither. Not in paper (SACMA):
everything here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from sacma.distributed import same_rows
from sacma.errors import SacmaError
from sacma.models import losses
from sacma.models.base import Method
from sacma.models.configs.joint import ClipClapConfig
from sacma.models.layers import EmbeddingNet, concatenated
from sacma.types import Batch, ClassSet


class ClipClap(Method):
    """Encoders, projections and reconstructions of clips and of class vectors."""

    Config = ClipClapConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {"extra_train_forward": True},
    }
    PUBLISHED_TRAINING: ClassVar[Mapping[str, Any]] = {"bias_search": "fine-grid"}
    OUTPUTS: ClassVar[Sequence[str]] = ("theta_o",)
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        # Earlier checkpoints have other names for the two encoders.
        "input_proj.": "O_enc.",
        "audio_proj.": "O_enc.",
        "w_emb.": "W_enc.",
        "O_enc.fc.": "encoder.",
        "W_enc.fc.": "text_encoder.",
        "O_proj.fc.": "projection.",
        "D_o.fc.": "reconstruction.",
        "W_proj.fc.": "text_projection.",
        "D_w.fc.": "text_reconstruction.",
    }
    temporal = False
    config: ClipClapConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.encoder = EmbeddingNet(c.observed_width, c.width, dropout=c.encoder_dropout)
        self.text_encoder = EmbeddingNet(c.words_width, c.width, dropout=c.encoder_dropout)
        hidden: dict[str, Any] = {"hidden": c.decoder_hidden, "dropout": c.decoder_dropout}
        self.projection = EmbeddingNet(c.width, c.common_width, **hidden)
        self.reconstruction = EmbeddingNet(c.common_width, c.width, **hidden)
        self.text_projection = EmbeddingNet(c.width, c.common_width, dropout=c.text_dropout)
        self.text_reconstruction = EmbeddingNet(c.common_width, c.width, dropout=c.text_dropout)

    def observed(self, batch: Batch) -> Tensor:
        """X, the features in use, video first, (B, D)."""
        audio, video = self.averaged(batch)
        if self.config.modality == "both":
            return concatenated(audio, video, unit=False)
        return audio if self.config.modality == "audio" else video

    def encode_text(self, vectors: Tensor) -> Tensor:
        """(K, E) class vectors to w', (K, width)."""
        return self.text_encoder(vectors[:, self.config.text_part])

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Cross-entropy, regression and the two reconstructions.

        Raises:
            SacmaError: all weights are 0.
        """
        encoded = self.encode_text(batch.text)
        theta, theta_w = self.projection(self.encoder(self.observed(batch))), self.text_projection(encoded)
        # First what is within the batch: the released code's order of BatchNorm updates.
        terms = self.text_terms(theta, theta_w, encoded) | self.class_terms(theta, batch, classes)
        if not terms:
            raise SacmaError(
                "all weights of the loss are 0; give at least weight_ce, weight_reg or weight_rec"
            )
        return terms

    def text_terms(self, theta: Tensor, theta_w: Tensor, encoded: Tensor) -> dict[str, Tensor]:
        """The weighted terms of clips and their class vectors.

        Args:
            theta: theta_o of the clips, (B, d).
            theta_w: theta_w of their classes, (B, d).
            encoded: w' of their classes, (B, width).
        """
        c = self.config
        terms: dict[str, Tensor] = {}
        if c.weight_rec:
            rho, rho_w = self.reconstruction(theta), self.text_reconstruction(theta_w)
            terms["reconstruction"] = c.weight_rec * losses.regression(rho, encoded)
            terms["reconstruction_text"] = c.weight_rec * losses.regression(rho_w, encoded)
        if c.weight_reg:
            terms["regression"] = c.weight_reg * losses.regression(theta, theta_w)
        return terms

    def class_terms(self, theta: Tensor, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The weighted terms of clips and all training classes.

        Args:
            theta: theta_o of the clips, (B, d).
            batch: the clips.
            classes: the training classes.
        """
        c = self.config
        if not c.weight_ce:
            return {}
        scores = theta @ self.project_classes(classes).T  # (B, K)
        return {"cross_entropy": c.weight_ce * F.cross_entropy(scores.float(), batch.labels)}

    def project_classes(self, classes: ClassSet) -> Tensor:
        """Theta_W, (K, d)."""
        with same_rows():
            return self.text_projection(self.encode_text(classes.vectors))

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """theta_o, whose Euclidean distance to theta_w scores."""
        return self.projection(self.encoder(self.observed(batch)))

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """theta_w of each class."""
        return self.text_projection(self.encode_text(classes.vectors))

    def second_forward(self, batch: Batch) -> None:
        """Project the batch again, as released."""
        self.projection(self.encoder(self.observed(batch)))
        self.text_projection(self.encode_text(batch.text))
