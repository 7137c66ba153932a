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
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from sacma.distributed import same_rows
from sacma.errors import SacmaError, printable
from sacma.models import losses
from sacma.models.base import Method, MethodConfig
from sacma.models.layers import EmbeddingNet, concatenated
from sacma.types import Batch, ClassSet


class ClipClap(Method):
    """Encoders, projections and reconstructions of clips and of class vectors."""

    @dataclass(frozen=True, kw_only=True)
    class Config(MethodConfig):
        """Hyperparameters of ClipClap.

        Attributes:
            modality: the features in use. With ``audio`` or ``video`` the class vector is cut to the part of
                that encoder, whatever ``words`` says.
            words: the parts of the class vector in use: that of CLIP, which comes first and is as wide as the
                video features, that of WavCaps' CLAP, as wide as the audio features, or both.
            width: of o and w'.
            common_width: of theta_o and theta_w.
            decoder_hidden: hidden width of O_proj and D_o.
            encoder_dropout: in O_enc and W_enc.
            decoder_dropout: in O_proj and D_o.
            text_dropout: in W_proj and D_w.
            weight_ce: of the cross-entropy; 0 leaves the term out, as for the other weights.
            weight_reg: of the regression of theta_o to theta_w.
            weight_rec: of the two reconstructions.
            extra_train_forward: a second forward pass after each step, which moves BatchNorm's statistics.
        """

        modality: Literal["both", "audio", "video"] = "both"
        words: Literal["both", "clip", "wavcaps"] = "both"
        width: int = 512
        common_width: int = 64
        decoder_hidden: int = 512
        encoder_dropout: float = 0.1
        decoder_dropout: float = 0.1
        text_dropout: float = 0.1
        weight_ce: float = 1.0
        weight_reg: float = 1.0
        weight_rec: float = 1.0
        extra_train_forward: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.words != "both" and not self.joined:
                raise SacmaError(
                    f"words is {printable(self.words)}, but class vectors {self.text_width} wide are "
                    "not those of "
                    f"CLIP and CLAP together, {self.video_width} + {self.audio_width}; leave words out"
                )

        @property
        def joined(self) -> bool:
            """True if class vectors are as wide as video and audio together, one part for each."""
            return self.text_width == self.video_width + self.audio_width

        @property
        def observed_width(self) -> int:
            """Width of the features in use."""
            parts = {"video": self.video_width, "audio": self.audio_width}
            return parts.get(self.modality, sum(parts.values()))

        @property
        def text_part(self) -> slice:
            """Columns of the class vectors that are in use."""
            kept = {"video": "clip", "audio": "wavcaps"}.get(self.modality, self.words)
            if not self.joined or kept == "both":
                return slice(0, self.text_width)
            return slice(0, self.video_width) if kept == "clip" else slice(self.video_width, self.text_width)

        @property
        def words_width(self) -> int:
            """Width of the part of the class vectors that is in use."""
            return len(range(self.text_width)[self.text_part])

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
    config: Config

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
