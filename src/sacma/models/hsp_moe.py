"""HSP-MoE: ClipClap on a sphere, kept close to what the frozen encoders know, with a mixture of experts.

Repository XPX-LQL/HSP-MoE-AVGZSL, on top of ClipClap (``clipclap.py``); no vectors of it are at hand, so each
term is tested against a literal reference. With ClipClap's theta_o and theta_w, x = (video, audio), w the
class vector, W those of the training classes, and u(.) unit length:

    experts     e_1(x), e_2(video), e_3(audio), each of unit length
    routing     p = softmax(router(u(P_v video), u(P_a audio)) / temperature)
    theta       u((1 - mix) u(theta_o) + mix u(sum_k p_k e_k))     phi_w = u(theta_w)
    l = CE(theta . phi_W^T / 0.1, label) + MSE(theta_o, theta_w) + MSE(w', rho_o) + MSE(w', rho_w)
        + a T^2 KL(softmax(cos(x, W) / T) || softmax(theta . phi_W^T / T))          distribution preservation
        + b MSE of the cosines between clips, those of theta and those of x         relation preservation
        + c max(0, log mean exp(-t |theta_i - theta_j|^2) + 4 t)                    uniformity

the last over pairs of clips of different classes. A clip gets the class with the smallest

    adapted |theta - phi_w| + (1 - adapted) s |u(x) - u(w)|

The released code takes for s the ratio of the two kinds of distances' means over whatever clips are scored
together. Here s is that ratio for validation clips and the candidates of validation, fixed from then on and
saved with the weights. Distribution preservation and the raw distances need features and class vectors of one
space, as those of CLIP and CLAP are; elsewhere both are left out. Not in paper (SACMA): everything here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.distributed import gathered
from sacma.models.clipclap import ClipClap
from sacma.models.configs.joint import HSPMoEConfig
from sacma.models.layers import Dropout, Linear
from sacma.types import Batch, ClassSet

EXPERT_HIDDEN = 128
ROUTER_HIDDEN = (128, 32)
FARTHEST = 4.0  # squared distance of opposite unit vectors


class Routing(nn.Module):
    """Experts for both modalities, for video and for audio, weighed by what the router sees of a clip.

    Args:
        audio_width: of the audio features.
        video_width: of the video features.
        width: of the directions that it returns.
        dropout: in the experts and the router.
        temperature: of the router's softmax.
    """

    def __init__(
        self, audio_width: int, video_width: int, width: int, *, dropout: float, temperature: float
    ) -> None:
        super().__init__()
        self.temperature = temperature
        hidden = max(2 * width, EXPERT_HIDDEN)

        def expert(width_in: int) -> nn.Sequential:
            return nn.Sequential(
                Linear(width_in, hidden),
                nn.LayerNorm(hidden),
                nn.GELU(),
                Dropout(dropout),
                Linear(hidden, width),
            )

        self.both, self.video, self.audio = map(expert, (video_width + audio_width, video_width, audio_width))
        self.describe_video, self.describe_audio = Linear(video_width, width), Linear(audio_width, width)
        first, second = ROUTER_HIDDEN
        self.router = nn.Sequential(
            Linear(2 * width, first),
            nn.ReLU(),
            Dropout(dropout),
            Linear(first, second),
            nn.ReLU(),
            Linear(second, 3),
        )

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """(B, Da) and (B, Dv) to unit directions (B, width)."""
        described = [_unit(self.describe_video(video)), _unit(self.describe_audio(audio))]
        weights = (self.router(torch.cat(described, dim=1)) / self.temperature).softmax(dim=1)  # (B, 3)
        joint = torch.cat([video, audio], dim=1)
        told = torch.stack(
            [_unit(self.both(joint)), _unit(self.video(video)), _unit(self.audio(audio))], dim=1
        )
        return _unit((weights[:, :, None] * told).sum(dim=1))


class HSPMoE(ClipClap):
    """ClipClap on a sphere, with preservation losses, routing, and raw distances beside the adapted ones."""

    Config = HSPMoEConfig

    VALIDATED: ClassVar[Sequence[str]] = ("raw_scale",)
    config: HSPMoEConfig
    raw_scale: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        self.experts: Routing | None = None
        if c.routing and c.hypersphere and c.modality == "both":
            self.experts = Routing(
                c.audio_width,
                c.video_width,
                c.common_width,
                dropout=c.expert_dropout,
                temperature=c.routing_temperature,
            )
        self.register_buffer("raw_scale", torch.ones(()))  # s

    def direction(self, theta: Tensor, batch: Batch) -> Tensor:
        """Theta of the clips, (B, d) of unit length, from their theta_o."""
        unit = _unit(theta)
        if self.experts is None:
            return unit
        mix = self.config.mix
        return _unit((1 - mix) * unit + mix * self.experts(*self.averaged(batch)))

    def raw(self, batch: Batch) -> Tensor:
        """X as the encoders gave it, whatever ``feature_scaling`` says, (B, D)."""
        parts = {"video": batch.video.mean(), "audio": batch.audio.mean()}
        modality = self.config.modality
        return torch.cat([part for name, part in parts.items() if modality in (name, "both")], dim=1)

    def class_terms(self, theta: Tensor, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Cross-entropy over cosines, and what keeps theta near to x."""
        c = self.config
        if not c.hypersphere:
            return super().class_terms(theta, batch, classes)
        direction, x = self.direction(theta, batch), self.raw(batch)
        terms: dict[str, Tensor] = {}
        if c.weight_ce or c.distribution:
            cosines = direction @ _unit(self.project_classes(classes)).T  # (B, K)
        if c.weight_ce:
            logits = (cosines / c.logit_temperature).float()
            terms["cross_entropy"] = c.weight_ce * F.cross_entropy(logits, batch.labels)
        if c.distribution:
            known = _unit(x) @ _unit(classes.vectors[:, c.text_part]).T
            terms["distribution"] = c.distribution * distribution_preservation(
                cosines, known, temperature=c.distribution_temperature
            )
        if c.weight_relation:
            terms["relation"] = c.weight_relation * relation_preservation(gathered(direction), gathered(x))
        if c.weight_uniformity:
            terms["uniformity"] = c.weight_uniformity * uniformity(
                gathered(direction), gathered(batch.labels), scale=c.uniformity_scale
            )
        return terms

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """Theta and, where the raw distances score too, u(x) beside it."""
        theta = super().embed_clips(batch)
        if not self.config.hypersphere:
            return theta
        theta = self.direction(theta, batch)
        return theta if self.config.adapted == 1 else torch.cat([theta, _unit(self.raw(batch))], dim=1)

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """phi_w of each class and, where the raw distances score too, u(w) beside it."""
        theta = super().embed_classes(classes)
        if not self.config.hypersphere:
            return theta
        theta, c = _unit(theta), self.config
        return theta if c.adapted == 1 else torch.cat([theta, _unit(classes.vectors[:, c.text_part])], dim=1)

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """(B, d) or (B, d + D) clips and as wide classes -> (B, K) distances."""
        c = self.config
        if c.adapted == 1:
            return super().compare(clips, classes)
        adapted, raw = self._both_distances(clips, classes)
        return c.adapted * adapted + (1 - c.adapted) * self.raw_scale * raw

    def _both_distances(self, clips: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        width = self.config.common_width
        adapted = super().compare(clips[:, :width], classes[:, :width])
        return adapted, super().compare(clips[:, width:], classes[:, width:])

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Take s from validation clips: mean adapted distance over mean raw distance, of all pairs."""
        if self.config.adapted == 1:
            return
        embedded = self.embed_classes(classes)
        totals = torch.zeros(2, dtype=torch.float64)
        for batch in batches:
            both = self._both_distances(self.embed_clips(batch), embedded)
            totals += torch.stack([one.double().sum().cpu() for one in both])
        if totals.min() > 0:
            self.raw_scale.copy_(totals[0] / totals[1])

    def choices(self) -> tuple[str, ...]:
        """The scale of the raw distances, where they score."""
        if self.config.adapted == 1:
            return ()
        return (f"raw distances have the scale {float(self.raw_scale):.4g}, fixed on validation",)


def distribution_preservation(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softmax over classes of cosines / T, mean over clips.

    Args:
        student: (B, K) cosines of trained embeddings.
        teacher: (B, K) cosines of frozen ones; no gradient.
        temperature: T.
    """
    told = (student.float() / temperature).log_softmax(dim=1)
    known = (teacher.detach().float() / temperature).softmax(dim=1)
    return F.kl_div(told, known, reduction="batchmean") * temperature**2


def relation_preservation(trained: Tensor, frozen: Tensor) -> Tensor:
    """Mean squared difference of the cosines of different clips, (B, d) and (B, D); 0 for a single clip."""
    cosines = [_unit(rows.float()) @ _unit(rows.float()).T for rows in (trained, frozen.detach())]
    difference = (cosines[0] - cosines[1]).square()
    pairs = max(len(trained) * (len(trained) - 1), 1)
    return (difference.sum() - difference.diagonal().sum()) / pairs


def uniformity(directions: Tensor, labels: Tensor, *, scale: float) -> Tensor:
    """Max(0, log mean exp(-t |x_i - x_j|^2) + 4 t) over pairs of clips of different classes.

    Args:
        directions: (B, d) of unit length.
        labels: (B,) classes.
        scale: t.

    Returns:
        A scalar, 0 where all clips are of one class.
    """
    cosines = directions.float() @ directions.float().T
    apart = labels[:, None] != labels  # (B, B)
    exponents = (-scale * (2 - 2 * cosines).clamp(min=0))[apart]
    if not len(exponents):
        return cosines.sum() * 0
    return (exponents.logsumexp(dim=0) - math.log(len(exponents)) + FARTHEST * scale).clamp(min=0)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)
