"""Hyperparameters of methods of sequences: SACMA, TCAF, attention fusion, Perceiver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sacma.errors import SacmaError
from sacma.models.configs.base import MethodConfig
from sacma.options import check_choices


class TrunkConfig(MethodConfig):
    """The hyperparameters that ``Trunk`` reads; each method declares them, with its own defaults."""

    width: int
    encoder_hidden: int
    encoder_dropout: float
    position_dropout: float
    depth: int
    heads: int
    head_width: int
    feed_forward_hidden: int
    transformer_dropout: float


@dataclass(frozen=True, kw_only=True)
class PublishedQuirks:
    """Departures of the authors' model file from the paper; the defaults follow the paper.

    Attributes:
        projections: one projection and reconstruction per stream, or one for a, v and m.
        layer_norms: two per transformer layer, or one used twice.
        padding_in_batchnorm: keep padded steps out of the encoders' batch statistics, or let them in.
        eval_time: position of a step in evaluation: its time in seconds, or its index.
        averaged_stream: also project the mean of p_a and p_v, which only moves BatchNorm's statistics.
        extra_train_forward: run a second forward pass after each step, which only moves them as well.
    """

    projections: Literal["separate", "shared"] = "separate"
    layer_norms: Literal["separate", "shared"] = "separate"
    padding_in_batchnorm: Literal["excluded", "included"] = "excluded"
    eval_time: Literal["seconds", "index"] = "seconds"
    averaged_stream: bool = False
    extra_train_forward: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        if self.averaged_stream and self.projections != "shared":
            raise SacmaError("averaged_stream needs projections: shared; it exists to move their statistics")


@dataclass(frozen=True, kw_only=True)
class SACMAConfig(TrunkConfig):
    """Hyperparameters of SACMA.

    Attributes:
        width: D, of the transformer.
        common_width: d, of the space shared with the class vectors.
        encoder_hidden: hidden width of the encoders A_enc and V_enc.
        decoder_hidden: hidden width of projections and reconstructions.
        encoder_dropout: in A_enc and V_enc.
        decoder_dropout: in projections and reconstructions of clips.
        text_dropout: in T_pro and D_t.
        depth: L, layers of the transformer.
        heads: heads of a layer.
        head_width: width of a head.
        feed_forward_hidden: hidden width of the feed-forward block.
        transformer_dropout: in the transformer.
        position_dropout: after the positions are added.
        temperature: tau of (14).
        weight_ccl: of l_ccl; 0 leaves the term out, as for the other weights.
        weight_cos: lambda_cos.
        weight_reg: of l_reg.
        weight_rec: of l_rec.
        weight_tm: lambda of the pair text, joint in (13); the others likewise (a audio, v video).
        same_class: role of other clips of the same class in l_ccl, see ``losses.contrastive``.
        quirks: see ``PublishedQuirks``.
        audio_attention: within I_a: self-attention, or the mean over the steps.
        video_attention: within I_v: likewise.
        joint_attention: within I_m: cross-modal attention, or plain self-attention.
        streams: the inputs in use, of a, v and m.
        input_steps: all, or one step a clip and modality, the average over time, to measure what time adds.
    """

    width: int = 300
    common_width: int = 64
    encoder_hidden: int = 256
    decoder_hidden: int = 512
    encoder_dropout: float = 0.4
    decoder_dropout: float = 0.2
    text_dropout: float = 0.1
    depth: int = 5
    heads: int = 8
    head_width: int = 64
    feed_forward_hidden: int = 128
    transformer_dropout: float = 0.3
    position_dropout: float = 0.2
    temperature: float = 0.05
    weight_ccl: float = 1.0
    weight_cos: float = 0.2
    weight_reg: float = 1.0
    weight_rec: float = 1.0
    weight_tm: float = 1.0
    weight_ta: float = 0.8
    weight_tv: float = 0.8
    weight_av: float = 0.1
    weight_am: float = 0.1
    weight_vm: float = 0.1
    same_class: Literal["negative", "masked", "positive"] = "negative"
    quirks: PublishedQuirks = PublishedQuirks()
    audio_attention: Literal["self", "mean"] = "self"
    video_attention: Literal["self", "mean"] = "self"
    joint_attention: Literal["cross", "self"] = "cross"
    streams: Literal["avm", "am", "vm", "m"] = "avm"
    input_steps: Literal["all", "average"] = "all"


@dataclass(frozen=True, kw_only=True)
class SpaceConfig(MethodConfig):
    """Hyperparameters of TCAF's encoders, common space and loss, which its fusion baselines share.

    Attributes:
        width: D, of a token.
        common_width: of the space shared with the class vectors.
        encoder_hidden: hidden width of the encoders A_enc and V_enc.
        decoder_hidden: hidden width of O_proj and D_o.
        encoder_dropout: in A_enc and V_enc.
        decoder_dropout: in O_proj and D_o.
        text_dropout: in W_proj and D_w.
        position_dropout: after the positions are added.
        weight_ce: of the cross-entropy; 0 leaves the term out, as for the other weights.
        weight_reg: of the regression of theta_o to theta_w.
        weight_rec: of the two reconstructions.
    """

    width: int = 300
    common_width: int = 64
    encoder_hidden: int = 256
    decoder_hidden: int = 512
    encoder_dropout: float = 0.4
    decoder_dropout: float = 0.2
    text_dropout: float = 0.1
    position_dropout: float = 0.2
    weight_ce: float = 1.0
    weight_reg: float = 1.0
    weight_rec: float = 1.0


@dataclass(frozen=True, kw_only=True)
class TCAFConfig(SpaceConfig, TrunkConfig):
    """Hyperparameters of TCAF, besides those of ``SpaceConfig``; defaults of UCF-GZSL with SeLaVi.

    Attributes:
        depth: layers of the transformer.
        heads: heads of a layer.
        head_width: width of a head.
        feed_forward_hidden: hidden width of the feed-forward block.
        transformer_dropout: in the transformer.
        attention: ``cross``, a step sees the other modality; ``within``, its own; ``both``.
        layer_norms: two per transformer layer, or one used twice.
        padding_in_batchnorm: keep padded steps out of the encoders' batch statistics, or let them in.
        eval_time: position of a step in evaluation: its time in seconds, or its index.
        extra_train_forward: run a second forward pass after each step; it moves BatchNorm's statistics.
    """

    depth: int = 5
    heads: int = 8
    head_width: int = 64
    feed_forward_hidden: int = 128
    transformer_dropout: float = 0.3
    attention: Literal["cross", "within", "both"] = "cross"
    layer_norms: Literal["separate", "shared"] = "separate"
    padding_in_batchnorm: Literal["excluded", "included"] = "excluded"
    eval_time: Literal["seconds", "index"] = "seconds"
    extra_train_forward: bool = False


@dataclass(frozen=True, kw_only=True)
class AttentionFusionConfig(SpaceConfig):
    """Hyperparameters, besides those of ``SpaceConfig``.

    Attributes:
        attention_hidden: hidden width of the network that gives alpha.
    """

    attention_hidden: int = 128


@dataclass(frozen=True, kw_only=True)
class PerceiverConfig(SpaceConfig):
    """Hyperparameters, besides those of ``SpaceConfig``.

    Attributes:
        latents: number of latents.
        depth: blocks of cross-attention and self-attention.
        heads: heads of an attention.
        head_width: width of a head.
        feed_forward_hidden: hidden width of the feed-forward blocks.
        transformer_dropout: in the blocks.
    """

    latents: int = 64
    depth: int = 5
    heads: int = 8
    head_width: int = 64
    feed_forward_hidden: int = 128
    transformer_dropout: float = 0.3
