"""Hyperparameters of methods for the embeddings of joint encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sacma.errors import SacmaError, printable
from sacma.models.configs.base import MethodConfig


def text_parts(
    *, audio_width: int, video_width: int, text_width: int, streams: str = "auto"
) -> Mapping[str, slice]:
    """Modality -> the columns of the class vectors that are of its space, as far as widths tell.

    Args:
        audio_width: of the audio features.
        video_width: of the visual features.
        text_width: of the class vectors: as wide as video and audio together, the video's part first, or as
            one of them, or as each of them.
        streams: ``av``, ``v`` or ``a``, or ``auto`` for all parts of class vectors that have one for each
            modality, and for a single one of others, pictures rather than sound.

    Returns:
        The modalities in use; none where the space of one that is asked for, or of all, is another.
    """
    widths = {"video": video_width, "audio": audio_width}
    if text_width == video_width + audio_width:
        found = {"video": slice(0, video_width), "audio": slice(video_width, text_width)}
    else:
        found = {name: slice(0, text_width) for name, width in widths.items() if width == text_width}
        if streams == "auto":
            return dict(list(found.items())[:1])
    wanted = [name for name in widths if streams == "auto" or name[0] in streams]
    return {name: found[name] for name in wanted} if set(wanted) <= set(found) else {}


@dataclass(frozen=True, kw_only=True)
class ClipClapConfig(MethodConfig):
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
                f"words is {printable(self.words)}, but class vectors {self.text_width} wide are not those "
                f"of CLIP and CLAP together, {self.video_width} + {self.audio_width}; leave words out"
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


@dataclass(frozen=True, kw_only=True)
class HSPMoEConfig(ClipClapConfig):
    """Hyperparameters of HSP-MoE, besides those of ClipClap.

    Attributes:
        hypersphere: score unit vectors; without it the other parts are off and this is ClipClap.
        logit_temperature: of the cross-entropy over cosines.
        weight_distribution: a, of distribution preservation; None is the published 0.001 where features
            and class vectors share a space, and else 0.
        distribution_temperature: T.
        weight_relation: b, of relation preservation.
        weight_uniformity: c, of uniformity.
        uniformity_scale: t.
        routing: mix in the experts; they need both modalities.
        mix: share of the experts in theta.
        routing_temperature: of the router.
        expert_dropout: in experts and router.
        adapted_weight: adapted, the share of the trained distances; None is the published 0.5 where
            features and class vectors share a space, and else 1.
    """

    hypersphere: bool = True
    logit_temperature: float = 0.1
    weight_distribution: float | None = None
    distribution_temperature: float = 2.0
    weight_relation: float = 0.0002
    weight_uniformity: float = 0.0002
    uniformity_scale: float = 2.0
    routing: bool = True
    mix: float = 0.5
    routing_temperature: float = 1.0
    expert_dropout: float = 0.1
    adapted_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mix", "adapted_weight"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise SacmaError(f"{name} is {share}; it must be a share, from 0 to 1")
        for name in ("logit_temperature", "distribution_temperature", "routing_temperature"):
            if not getattr(self, name) > 0:
                raise SacmaError(f"{name} is {getattr(self, name)}; it must be above 0")
        uses_raw = self.adapted_weight is not None and self.adapted_weight < 1
        if (self.weight_distribution or uses_raw) and not self.aligned:
            raise SacmaError(
                f"weight_distribution and adapted_weight compare features {self.observed_width} wide "
                f"with class vectors {self.words_width} wide, which must share a space; leave both out, "
                "or take features of CLIP and CLAP (--features clip-clap)"
            )

    @property
    def aligned(self) -> bool:
        """True if a clip's features and the class vectors in use are in one space, of equal widths."""
        return self.joined and self.words_width == self.observed_width

    @property
    def distribution(self) -> float:
        """The weight of distribution preservation in use."""
        if self.weight_distribution is None:
            return 0.001 if self.aligned else 0.0
        return self.weight_distribution

    @property
    def adapted(self) -> float:
        """The share of the trained distances in use."""
        if self.adapted_weight is None:
            return 0.5 if self.aligned and self.hypersphere else 1.0
        return self.adapted_weight


@dataclass(frozen=True, kw_only=True)
class FrozenConfig(MethodConfig):
    """Hyperparameters of the frozen score.

    Attributes:
        streams: the modalities in use; auto is all whose space the class vectors share.
        modality_weights: equal, or validation, which takes the best of 0, 0.1, ..., 1 as the share of
            sound.
        calibrate_bias: add the best bias of validation to seen classes; else none is added.
    """

    streams: Literal["auto", "av", "v", "a"] = "auto"
    modality_weights: Literal["equal", "validation"] = "equal"
    calibrate_bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parts:
            raise SacmaError(
                "the frozen score needs features and class vectors of one space, but class vectors "
                f"{self.text_width} wide do not fit video features {self.video_width} wide and audio "
                f"features {self.audio_width} wide (streams {self.streams}); take features and class "
                "vectors of a joint encoder"
            )

    @property
    def parts(self) -> Mapping[str, slice]:
        """Modality in use -> its columns of the class vectors."""
        return text_parts(
            audio_width=self.audio_width,
            video_width=self.video_width,
            text_width=self.text_width,
            streams=self.streams,
        )
