"""TCAF: temporal cross-attention for audio-visual zero-shot learning, SACMA's baseline.

Mercea et al., "Temporal and cross-modal attention for audio-visual zero-shot learning", ECCV 2022,
https://arxiv.org/abs/2207.09966; released code: github.com/ExplainableML/TCAF-GZSL (MIT).

A transformer reads a class token, the audio steps and the video steps of a clip; a step sees the class token
and the steps of the other modality. The class token is projected to theta_o, class vectors w to theta_w, and

    l = CE(theta_o . theta_W^T, label) + MSE(theta_o, theta_w) + MSE(rho_o, w) + MSE(rho_w, w)

where theta_W are all training classes and rho are reconstructions of w from theta. A clip gets the class
whose theta_w is nearest (L2) to its theta_o: training compares by dot products, scoring by distances.

Variant ``published`` repeats the released code: one LayerNorm per layer used twice, padding in the encoders'
batch statistics, positions counted in steps during evaluation, a second forward pass after each step.
``corrected`` has none of these. Not in paper (SACMA): all hyperparameters; widths, depths, dropouts and
schedule are those of the released configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from sacma.distributed import same_rows
from sacma.errors import SacmaError
from sacma.models import losses
from sacma.models.base import Method
from sacma.models.configs.sequences import SpaceConfig, TCAFConfig
from sacma.models.layers import EmbeddingNet
from sacma.models.sacma import from_published
from sacma.models.steps import StepEncoder
from sacma.models.trunk import Trunk
from sacma.types import Batch, ClassSet, Sequences


class TextSpace(nn.Module):
    """O_proj, D_o, W_proj and D_w of TCAF, with its loss and its distance."""

    def __init__(self, config: SpaceConfig) -> None:
        super().__init__()
        c = self.config = config

        def net(width_in: int, width_out: int) -> EmbeddingNet:
            return EmbeddingNet(width_in, width_out, hidden=c.decoder_hidden, dropout=c.decoder_dropout)

        self.projection = net(c.width, c.common_width)
        self.reconstruction = net(c.common_width, c.text_width)
        self.text_projection = EmbeddingNet(c.text_width, c.common_width, dropout=c.text_dropout)
        self.text_reconstruction = EmbeddingNet(c.common_width, c.text_width, dropout=c.text_dropout)

    def loss(self, fused: Tensor, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The weighted terms of the loss.

        Args:
            fused: (B, D), one vector per clip.
            batch: the clips.
            classes: the training classes.

        Raises:
            SacmaError: all weights are 0.
        """
        c = self.config
        theta, theta_w = self.projection(fused), self.text_projection(batch.text)
        terms: dict[str, Tensor] = {}
        if c.weight_ce:
            with same_rows():
                theta_all = self.text_projection(classes.vectors)
            scores = theta @ theta_all.T  # (B, K)
            terms["cross_entropy"] = c.weight_ce * F.cross_entropy(scores.float(), batch.labels)
        if c.weight_reg:
            terms["regression"] = c.weight_reg * losses.regression(theta, theta_w)
        if c.weight_rec:
            rho, rho_w = self.reconstruction(theta), self.text_reconstruction(theta_w)
            terms["reconstruction"] = c.weight_rec * losses.regression(rho, batch.text)
            terms["reconstruction_text"] = c.weight_rec * losses.regression(rho_w, batch.text)
        if not terms:
            raise SacmaError(
                "all weights of the loss are 0; give at least one of weight_ce, weight_reg, weight_rec"
            )
        return terms


class SpaceMethod(Method):
    """A method that fuses a clip to one vector; ``TextSpace`` has its loss and its distance."""

    OUTPUTS: ClassVar[Sequence[str]] = ("theta_o",)
    space: TextSpace

    def fused(self, batch: Batch) -> Tensor:
        """(B, D): one vector per clip, the input of ``TextSpace``."""
        raise NotImplementedError

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Cross-entropy, regression and the two reconstructions."""
        return self.space.loss(self.fused(batch), batch, classes)

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, d): theta_o, whose distance (L2) to theta_w scores."""
        return self.space.projection(self.fused(batch))

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, d): theta_w of each class."""
        return self.space.text_projection(classes.vectors)


class StepsMethod(SpaceMethod):
    """A baseline that fuses TCAF's encoded steps in another way than by TCAF's transformer."""

    config: SpaceConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.steps = StepEncoder(
            c.audio_width,
            c.video_width,
            c.width,
            hidden=c.encoder_hidden,
            dropout=c.encoder_dropout,
            position_dropout=c.position_dropout,
        )

    def encoded(self, batch: Batch) -> tuple[Sequences, Sequences]:
        """Audio and video steps of width D, encoded and placed in time."""
        published = self.config.feature_scaling == "published"
        return self.steps(*self.scaled(batch), published_scaling=published, with_padding=False)


class TCAF(SpaceMethod):
    """The transformer with cross-modal attention and TCAF's loss."""

    Config = TCAFConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {
            "layer_norms": "shared",
            "padding_in_batchnorm": "included",
            "eval_time": "index",
            "extra_train_forward": True,
        },
    }
    config: TCAFConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.trunk = Trunk(c, shared_norm=c.layer_norms == "shared")
        self.space = TextSpace(c)

    def fused(self, batch: Batch) -> Tensor:
        """The class token after the last layer, (B, D)."""
        c = self.config
        if c.eval_time == "index" and not self.training:
            batch = batch.by_index()
        return self.trunk(
            *self.scaled(batch),
            attention=c.attention,
            published_scaling=c.feature_scaling == "published",
            with_padding=c.padding_in_batchnorm == "included",
        )["m"]

    def second_forward(self, batch: Batch) -> None:
        """Project the batch again, with times by index as released."""
        self.space.projection(self.fused(batch.by_index()))
        self.space.text_projection(batch.text)

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load a state dict with the key names of the released model.

        Raises:
            SacmaError: keys are missing or unknown, or shapes differ; they are named.
        """
        if self.config.layer_norms != "shared":
            raise SacmaError("published weights fit the variant 'published' only (one norm per layer)")
        super().load_published(state)

    @classmethod
    def rename_published(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The trunk's keys as SACMA's, the others within ``space``."""
        renamed = {}
        for key, value in from_published(state).items():
            name = key.replace("projections.shared.", "projection.")
            name = name.replace("reconstructions.shared.", "reconstruction.")
            renamed[name if name.startswith("trunk.") else f"space.{name}"] = value
        return renamed
