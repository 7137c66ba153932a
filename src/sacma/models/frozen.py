"""Frozen: the score of a joint encoder without any training, as a method of the protocol.

Features of an encoder that embeds clips and texts in one space are compared with the class vectors of its
text side. With a and v the means of a clip's unit steps, and t_a and t_v the parts of the class vector,

    score = share cos(a, t_a) + (1 - share) cos(v, t_v)          distance = 1 - score

and only the modality that a clip has counts where it lacks the other. Class vectors of two text encoders
stand beside each other, that for pictures first; vectors of one serve the modality that is as wide. The share
of sound is half, or the one that is best on validation. Nothing is fitted to training clips; the bias on seen
classes is that of validation, or none. Not in paper (SACMA): everything here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.metrics.gzsl import best_bias, evaluate
from sacma.metrics.nearest import nearest
from sacma.models.base import Method
from sacma.models.configs.joint import FrozenConfig
from sacma.types import Batch, ClassSet, Sequences

if TYPE_CHECKING:
    pass

SHARES = tuple(number / 10 for number in range(11))


class Frozen(Method):
    """Cosines of features and class vectors; nothing is trained."""

    learns_by_gradient = False
    Config = FrozenConfig

    OUTPUTS: ClassVar[Sequence[str]] = ("score",)
    VALIDATED: ClassVar[Sequence[str]] = ("audio_share",)
    needs_joint_space = True
    takes_averages = True
    config: FrozenConfig
    audio_share: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        self.register_buffer("audio_share", torch.tensor(0.5))
        if not self.config.calibrate_bias:
            setattr(self, "calibrated", False)  # noqa: B010  (of this instance)

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, E): a and v, each times its share, in the order of the class vectors."""
        parts = self.config.parts
        shares = self._shares(batch)
        unit = self._unit_means(batch)
        return torch.cat([unit[name] * shares[name][:, None] for name in parts], dim=1)

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, E): t_v and t_a."""
        return torch.cat([_unit(classes.vectors[:, part]) for part in self.config.parts.values()], dim=1)

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """(B, K): 1 - score."""
        return 1 - clips @ classes.T

    def _unit_means(self, batch: Batch) -> dict[str, Tensor]:
        return {name: _unit(_of_unit_steps(steps)) for name, steps in self._steps(batch).items()}

    def _steps(self, batch: Batch) -> dict[str, Sequences]:
        """The features as they are, whatever ``feature_scaling`` says, of the modalities in use."""
        self._check_width("audio", batch.audio, self.config.audio_width)
        self._check_width("video", batch.video, self.config.video_width)
        both = {"video": batch.video, "audio": batch.audio}
        return {name: both[name] for name in self.config.parts}

    def _shares(self, batch: Batch, share: Tensor | float | None = None) -> dict[str, Tensor]:
        """Weights of the modalities, (B,) each, which sum to 1 where a clip has any of them."""
        share = self.audio_share if share is None else share
        sound, pictures = (part.lengths.gt(0).float() for part in (batch.audio, batch.video))
        if len(self.config.parts) == 1:
            return {"audio": sound, "video": pictures}
        audio, video = share * sound, (1 - share) * pictures
        # The share of a modality that alone is there may be 0.
        alone = (audio + video == 0).float()
        audio, video = audio + alone * sound, video + alone * pictures
        total = (audio + video).clamp(min=1e-12)
        return {"audio": audio / total, "video": video / total}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Choose the share of sound by the harmonic mean of validation; of equals, the nearest to a half."""
        if self.config.modality_weights == "equal" or len(self.config.parts) == 1:
            return
        vectors = {name: _unit(classes.vectors[:, part]) for name, part in self.config.parts.items()}
        found: dict[float, list[Tensor]] = {share: [] for share in SHARES}
        labels: list[Tensor] = []
        for batch in batches:
            unit = self._unit_means(batch)
            cosines = {name: unit[name] @ vectors[name].T for name in vectors}
            for share, parts in found.items():
                weights = self._shares(batch, share)
                weighted = [weights[name][:, None] * cosines[name] for name in vectors]
                parts.append(1 - torch.stack(weighted).sum(0))
            labels.append(batch.labels.cpu())
        means = {
            share: self._best(torch.cat(parts), torch.cat(labels), classes) for share, parts in found.items()
        }
        best = max(means.values())
        chosen = min(
            (share for share, mean in means.items() if mean == best), key=lambda share: abs(share - 0.5)
        )
        self.audio_share.fill_(chosen)

    def choices(self) -> tuple[str, ...]:
        """The weights of the modalities, where both are in use."""
        if len(self.config.parts) == 1:
            return ()
        how = "equal" if self.config.modality_weights == "equal" else "chosen on validation"
        return (
            f"weights {how}: sound {float(self.audio_share):.1f}, pictures {1 - float(self.audio_share):.1f}",
        )

    def _best(self, distances: Tensor, labels: Tensor, classes: ClassSet) -> float:
        """The harmonic mean at the best bias, or at none."""
        seen = classes.seen.cpu()
        close = nearest(distances.cpu(), seen)
        bias = best_bias(close, labels, seen)[0] if self.calibrated else 0.0
        return evaluate(close, labels, classes, bias=bias, bias_search="exact").harmonic_mean

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Mean distance to the right class, for the record; nothing follows its gradient."""
        distances = self.distances(batch, classes)
        return {"distance": distances.gather(1, batch.labels[:, None]).mean()}


def _of_unit_steps(steps: Sequences) -> Tensor:
    """(B, D): the mean of the unit steps of each clip."""
    return steps.with_values(_unit(steps.values)).mean()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)
