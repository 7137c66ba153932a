"""AVGZSLNet: a decoder of class vectors shared by the modalities, and composite triplets.

Mazumder et al., AVGZSLNet: audio-visual generalized zero-shot learning by reconstructing label features from
multi-modal embeddings, WACV 2021, as set up for the benchmark of AVCA (CVPR 2022).

Three networks embed audio, video and class vector (a, v, t; - a clip of another class) and a decoder g
returns from there to the class vectors. With T the triplet loss (anchor; positive, negative) and w the clip's
class vector,

    l = mean |g(t) - w| + mean |g(a) - w| + mean |g(v) - w| + T(g(t); g(a), g(a-)) + T(g(t); g(v), g(v-))
        + T(t; a, a-) + T(a; t, t-) + T(t; v, v-) + T(v; t, t-)

A clip gets the class with the smallest sum of the distances (L2) of its a and of its v to t. Variant
``published`` has the same network, but tests with the mean of three biases: the best on validation for the
distances of a, for those of v and for their sum. The SACMA paper gives none of this; widths, dropouts and
schedule are those of AVCA's released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.models import losses
from sacma.models.base import negatives_of
from sacma.models.configs.averages import AVGZSLNetConfig
from sacma.models.layers import TwoLayerNet
from sacma.models.triplet_nets import TripletMethod
from sacma.types import Batch, ClassSet


class AVGZSLNet(TripletMethod):
    """Three embedding networks and the decoder."""

    Config = AVGZSLNetConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {"mean_bias": True},
    }
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        **TripletMethod.PUBLISHED_NAMES,
        "decoder_net.embedding_net.fc.": "decoder.",
    }
    config: AVGZSLNetConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.audio_net = TwoLayerNet(c.audio_width, c.hidden, c.common_width, dropout=c.dropout)
        self.video_net = TwoLayerNet(c.video_width, c.hidden, c.common_width, dropout=c.dropout)
        self.text_net = TwoLayerNet(c.text_width, c.text_hidden, c.common_width, dropout=c.dropout)
        self.decoder = TwoLayerNet(c.common_width, c.decoder_hidden, c.text_width, dropout=c.decoder_dropout)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Reconstructions, triplets of what is decoded, and composite triplets."""
        negatives = negatives_of(batch)
        (audio, video), (other_audio, other_video) = self.averaged(batch), self.averaged(negatives)
        a, other_a = self.audio_net(audio), self.audio_net(other_audio)
        v, other_v = self.video_net(video), self.video_net(other_video)
        t, other_t = self.text_net(batch.text), self.text_net(negatives.text)
        # Five calls in this order: each has batch statistics of its own and moves the running ones.
        g_a, g_v, g_t, g_other_a, g_other_v = map(self.decode, (a, v, t, other_a, other_v))

        def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
            return losses.triplet(anchor, positive, negative, margin=self.config.margin)

        return {
            "reconstruction_t": (g_t - batch.text).norm(dim=1).mean(),
            "reconstruction_a": (g_a - batch.text).norm(dim=1).mean(),
            "reconstruction_v": (g_v - batch.text).norm(dim=1).mean(),
            "triplet_decoded_ta": triplet(g_t, g_a, g_other_a),
            "triplet_decoded_tv": triplet(g_t, g_v, g_other_v),
            "triplet_ta": triplet(t, a, other_a),
            "triplet_at": triplet(a, t, other_t),
            "triplet_tv": triplet(t, v, other_v),
            "triplet_vt": triplet(v, t, other_t),
        }

    def decode(self, embedding: Tensor) -> Tensor:
        """(B, d) -> (B, E)."""
        decoded: Tensor = self.decoder(embedding)
        return F.normalize(decoded, dim=1) if self.config.normalise_decoded else decoded

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, 2 d): a and v side by side; or (B, d) the one that ``output`` names."""
        audio, video = self.averaged(batch)
        match self.scoring_output(output):
            case "audio":
                return self.audio_net(audio)
            case "video":
                return self.video_net(video)
            case _:
                return torch.cat([self.audio_net(audio), self.video_net(video)], dim=1)

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """Sum over the modalities in ``clips`` of their distances (L2) to the classes, (B, K)."""
        parts = clips.split(classes.shape[1], dim=1)
        return torch.stack([super(AVGZSLNet, self).compare(part, classes) for part in parts]).sum(0)
