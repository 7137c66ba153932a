"""Hyperparameters of methods of averages over time that are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sacma.models.configs.base import MethodConfig


@dataclass(frozen=True, kw_only=True)
class APNConfig(MethodConfig):
    """Hyperparameters of APN.

    Attributes:
        norm_inputs: give the joint feature vector unit length.
        cross_entropy: of the logits, or of their softmax used as logits.
    """

    norm_inputs: bool = False
    cross_entropy: Literal["logits", "probabilities"] = "logits"


@dataclass(frozen=True, kw_only=True)
class AVCAConfig(MethodConfig):
    """Hyperparameters of AVCA.

    Attributes:
        width: of the encoders' results and of the transformer.
        common_width: of the space shared with the class vectors.
        encoder_hidden: hidden width of the encoders A_enc and V_enc.
        decoder_hidden: hidden width of the projections A_proj and V_proj.
        encoder_dropout: in the encoders and in the transformer.
        decoder_dropout: in the projections.
        text_dropout: in W_proj, D, A_rec and V_rec.
        momentum: of the second BatchNorm of encoders and projections.
        depth: layers of the transformer.
        heads: heads of a layer.
        head_width: width of a head.
        feed_forward_hidden: hidden width of the feed-forward block.
        margin: of the triplet losses.
        position_trainable: train the position p, or leave it at its random values.
        unused_passes: also project the reconstructions and decode the negatives' theta_w, which only
            moves BatchNorm's statistics.
        extra_train_forward: run a second forward pass after each step, which only moves them as well.
    """

    width: int = 300
    common_width: int = 64
    encoder_hidden: int = 512
    decoder_hidden: int = 512
    encoder_dropout: float = 0.2
    decoder_dropout: float = 0.3
    text_dropout: float = 0.5
    momentum: float = 0.1
    depth: int = 1
    heads: int = 3
    head_width: int = 100
    feed_forward_hidden: int = 64
    margin: float = 1.0
    position_trainable: bool = True
    unused_passes: bool = False
    extra_train_forward: bool = False


@dataclass(frozen=True, kw_only=True)
class AVMSTConfig(AVCAConfig):
    """Hyperparameters of AVMST: AVCA's, and those of the spiking branches.

    Attributes:
        spiking_hidden: hidden width of the spiking branches.
        spiking_steps: T, number of times that a branch gets its input.
        snn_trainable: train the spiking branches, or leave them at their random values.
        video_uses_audio_snn: send the video through the audio's branch from the second step on.
        snn_carry_state: keep voltages from one sequence of a forward pass to the next.
    """

    spiking_hidden: int = 512
    spiking_steps: int = 10
    snn_trainable: bool = True
    video_uses_audio_snn: bool = False
    snn_carry_state: bool = False


@dataclass(frozen=True, kw_only=True)
class AVGZSLNetConfig(MethodConfig):
    """Hyperparameters of AVGZSLNet.

    Attributes:
        common_width: of the space that audio, video and class vectors are embedded in.
        hidden: hidden width of the networks of audio and video.
        text_hidden: hidden width of the network of class vectors.
        decoder_hidden: hidden width of the decoder.
        dropout: in the three networks.
        decoder_dropout: in the decoder.
        margin: of the triplet losses.
        normalise_decoded: give the decoder's results unit length.
        mean_bias: test with the mean of the biases that are best on validation for a, for v and for both,
            or with the best bias of the output that scores.
    """

    common_width: int = 64
    hidden: int = 1024
    text_hidden: int = 300
    decoder_hidden: int = 64
    dropout: float = 0.8
    decoder_dropout: float = 0.5
    margin: float = 1.0
    normalise_decoded: bool = True
    mean_bias: bool = False


@dataclass(frozen=True, kw_only=True)
class BilinearConfig(MethodConfig):
    """Hyperparameters of DeViSE, ALE and SJE.

    Attributes:
        dropout: on the features and on the class vectors, in training.
        margin: by which the right class should score above the others.
        norm_inputs: give the joint feature vector unit length.
        score: rank classes in evaluation by the product that is trained, or by the distance (L2).
    """

    dropout: float = 0.2
    margin: float = 0.1
    norm_inputs: bool = False
    score: Literal["product", "euclidean"] = "product"


@dataclass(frozen=True, kw_only=True)
class CJMEConfig(MethodConfig):
    """Hyperparameters of CJME.

    Attributes:
        common_width: of the space that audio, video and class vectors are embedded in.
        hidden: hidden width of the networks of audio and video.
        text_hidden: hidden width of the network of class vectors.
        dropout: in the three networks.
        margin: of the triplet losses.
        entropy_gap: difference of entropy, in nats, above which one modality counts as more certain.
        weighting: weigh each clip's triplets by its own attention, or all by the batch's mean attention.
        unused_passes: also embed the negatives' class vectors, which only moves BatchNorm's statistics.
        mean_bias: test with the mean of the biases that are best on validation for a, for v and for both,
            or with the best bias of the output that scores.
    """

    common_width: int = 64
    hidden: int = 1024
    text_hidden: int = 300
    dropout: float = 0.2
    margin: float = 1.0
    entropy_gap: float = 0.1
    weighting: Literal["clip", "batch"] = "clip"
    unused_passes: bool = False
    mean_bias: bool = False
