"""CJME: coordinated joint multimodal embeddings with an attention over the two modalities.

Parida et al., Coordinated joint multimodal embeddings for generalized audio-visual zero-shot classification
and retrieval of videos, WACV 2020, as set up for the benchmark of AVCA (CVPR 2022).

Three networks embed audio, video and class vector (a, v, t; + the clip, - a clip of another class). An
attention alpha in (0, 1) reads both features. With T the triplet loss (anchor; positive, negative) of a clip,

    l = mean_i [(1 - alpha_i) T_i(t+; a+, a-) + alpha_i T_i(t+; v+, v-)] + MSE(a+, v+) + MSE(alpha, s)

s is the more certain modality by the entropies H of the softmax over the training classes: 0 (audio) where
H_v exceeds H_a by more than ``entropy_gap``, 1 (video) where H_a exceeds H_v by as much, 1/2 in between.

Inference: distance (L2) of t to v where alpha >= 1/2, else to a. Variant ``published`` differs in three ways.
It weighs by the mean alpha of the batch, (1 - mean alpha) mean T_a + mean alpha mean T_v, the result of
broadcasting (B, 1) against (B,) in the released code. It embeds the negatives' class vectors too, which only
moves BatchNorm's statistics. It tests with the mean of three biases: the best on validation for the distances
of a alone, of v alone, and of the two as above. The SACMA paper gives none of this; widths, dropouts and
schedule are those of AVCA's released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sacma.distributed import gathered, same_rows
from sacma.models import losses
from sacma.models.base import negatives_of
from sacma.models.configs.averages import CJMEConfig
from sacma.models.layers import TwoLayerNet
from sacma.models.triplet_nets import TripletMethod
from sacma.types import Batch, ClassSet


class CJME(TripletMethod):
    """Three embedding networks and the attention."""

    Config = CJMEConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {"weighting": "batch", "unused_passes": True, "mean_bias": True},
    }
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        **TripletMethod.PUBLISHED_NAMES,
        "attention_model.": "attention.",
    }
    config: CJMEConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config

        def net(width: int, hidden: int) -> TwoLayerNet:
            return TwoLayerNet(width, hidden, c.common_width, dropout=c.dropout, final_relu=True)

        self.audio_net = net(c.audio_width, c.hidden)
        self.video_net = net(c.video_width, c.hidden)
        self.text_net = net(c.text_width, c.text_hidden)
        joint = c.audio_width + c.video_width
        self.attention = nn.Sequential(nn.BatchNorm1d(joint), nn.Linear(joint, 1), nn.Sigmoid())

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The weighted triplets, the agreement of a and v, and the supervision of alpha."""
        c = self.config
        negatives = negatives_of(batch)
        audio, video = self.averaged(batch)
        other_audio, other_video = self.averaged(negatives)
        a, other_a = self.audio_net(audio), self.audio_net(other_audio)
        v, other_v = self.video_net(video), self.video_net(other_video)
        t = self.text_net(batch.text)
        if c.unused_passes:
            self.text_net(negatives.text)
        alpha = self.attend(audio, video)
        triplet_a = losses.triplet(t, a, other_a, margin=c.margin, reduction="none")  # (B,)
        triplet_v = losses.triplet(t, v, other_v, margin=c.margin, reduction="none")
        weight = alpha if c.weighting == "clip" else gathered(alpha).mean()
        with torch.no_grad(), same_rows():
            target = self.supervision(a, v, self.text_net(classes.vectors))
        return {
            "triplet": ((1 - weight) * triplet_a + weight * triplet_v).mean(),
            "regression_av": losses.regression(a, v),
            "attention": losses.regression(alpha, target),
        }

    def attend(self, audio: Tensor, video: Tensor) -> Tensor:
        """alpha, (B,): near 1 where the video should decide, near 0 where the audio should."""
        alpha: Tensor = self.attention(torch.cat([audio, video], dim=1))
        return alpha.squeeze(1)

    def supervision(self, a: Tensor, v: Tensor, text: Tensor) -> Tensor:
        """Target of alpha.

        Args:
            a: (B, d) audio embeddings.
            v: (B, d) video embeddings.
            text: (K, d) embedded training classes.

        Returns:
            (B,) s: 1 where the video is more certain of the class, 0 where the audio is, else 1/2.
        """
        gap = entropy(a @ text.T) - entropy(v @ text.T)  # above 0 where the video is more certain
        certain = (gap.abs() > self.config.entropy_gap) * gap.sign()  # -1, 0 or 1
        return (certain + 1) / 2

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, d): v where alpha >= 1/2, else a; or the one that ``output`` names."""
        audio, video = self.averaged(batch)
        match self.scoring_output(output):
            case "audio":
                return self.audio_net(audio)
            case "video":
                return self.video_net(video)
        by_video = self.attend(audio, video)[:, None] >= 0.5
        return torch.where(by_video, self.video_net(video), self.audio_net(audio))


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax of each row in nats, (B, K) -> (B,).

    Example:
        >>> entropy(torch.zeros(1, 4)).exp()
        tensor([4.])
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
