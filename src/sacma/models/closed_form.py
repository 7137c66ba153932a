"""Closed forms from features to class vectors: balanced statistics, and ridges chosen on validation.

x is (video, audio), the average over time of each modality at unit length, less the mean over the training
classes; w is a class vector less the mean of the training classes', at unit length. With k classes, M (k, d)
their means and T the pooled scatter of the n clips within classes, C = M^T M / k + T / n is the covariance
that gives every class the same weight. A subclass says what it makes of C and M.

Ridges are shares of a trace, so the same grid serves features of any width and scale. Its points are half a
decade apart, from 1e-5 on for features. Validation is nearly flat around its best point, so which point that
is depends on chance: the map is the mean of those of all points whose harmonic mean, the largest one over all
biases, is within 10 % of that of the best point. Stage 2 keeps stage 1's points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.metrics.gzsl import harmonic_mean, seen_unseen_curve
from sacma.metrics.nearest import nearest
from sacma.models.base import Method
from sacma.models.configs.fitted import ClosedFormConfig
from sacma.models.kite_view import resize_buffers
from sacma.models.moments import Moments
from sacma.types import Batch, ClassSet

FEATURE_RIDGES = tuple(10 ** (power / 2) for power in range(-10, 1))
TEXT_RIDGES = tuple(10 ** (power / 2) for power in range(-6, 3))
NEAR_BEST = 0.9  # of the largest harmonic mean on validation


class Solved(NamedTuple):
    """Statistics of the training clips, taken before a ridge is chosen, float64.

    Attributes:
        basis: (d, r) axes.
        centre: (r,) mean of the class means.
        means: (k, r) class means less the centre.
        strengths: (r,) eigenvalues of C.
        rotation: (r, r) its eigenvectors.
        known: (k, E) the training classes' w.
    """

    basis: Tensor
    centre: Tensor
    means: Tensor
    strengths: Tensor
    rotation: Tensor
    known: Tensor

    def ridged(self, ridge: float, targets: Tensor) -> Tensor:
        """(r, E): (C + ridge tr(C) I)^-1 M^T targets / k, for (k, E) targets."""
        inverse = 1 / (self.strengths + ridge * self.strengths.sum().clamp(min=1e-12))
        return (
            self.rotation @ (inverse[:, None] * (self.rotation.T @ (self.means.T @ targets))) / len(targets)
        )


class ClosedForm(Method):
    """Solved, not trained. A subclass defines ``solutions`` and ``compare``.

    Class attributes:
        RIDGES: the grid of each ridge of the method, that of the features first.
    """

    Config = ClosedFormConfig

    RIDGES: ClassVar[Sequence[Sequence[float]]] = (FEATURE_RIDGES,)
    VALIDATED: ClassVar[Sequence[str]] = ("ridges",)
    temporal = False
    learns_by_gradient = False
    needs_fit = True
    config: ClosedFormConfig
    compatibility: Tensor
    feature_mean: Tensor
    text_mean: Tensor
    ridges: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        width = c.video_width + c.audio_width
        # Zeros, that is no preference, until fit.
        self.register_buffer("compatibility", torch.zeros(width, c.text_width))
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("text_mean", torch.zeros(c.text_width))
        middle = [grid[len(grid) // 2] for grid in self.RIDGES]
        given = [one or other for one, other in zip(self._given(), middle, strict=True)]
        # A row for each point of the grid that counts.
        self.register_buffer("ridges", torch.tensor([given], dtype=torch.float64))
        self._solved: Solved | None = None

    def solutions(self, solved: Solved, points: Iterable[Sequence[float]]) -> Iterator[Tensor]:
        """For the ridges of each point, (r, E), the map from centred features to class vectors."""
        raise NotImplementedError

    def _given(self) -> Sequence[float | None]:
        """The ridges that the user fixed."""
        return (self.config.gamma,)

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Take the statistics of the training clips and solve; vectors of unseen candidates play no part.

        Raises:
            SacmaError: a clip is of an unseen class, or there are no clips.
        """
        moments, is_seen = Moments(len(classes)), classes.seen.cpu()
        for batch in batches:
            labels = batch.labels.cpu()
            if not is_seen[labels].all():
                raise SacmaError(
                    f"{type(self).__name__} got a clip of an unseen class; give training clips only"
                )
            moments.add(self.joint(batch).cpu(), labels)
        if not moments.clips:
            raise SacmaError(f"{type(self).__name__} got no training clips; give some")
        few = moments.clips <= moments.width
        basis = moments.axes(moments.clips) if few else torch.eye(moments.width, dtype=torch.float64)
        all_sums = moments.along(basis) if few else moments.statistics()
        known = all_sums.counts.nonzero().squeeze(1)
        vectors = classes.vectors.cpu()[known].double()
        counts, sums, second = all_sums.among(known)
        means = sums / counts[:, None]
        within = (second - sums.T @ means) / counts.sum()
        centre = means.mean(0)
        means = means - centre
        strengths, rotation = torch.linalg.eigh(means.T @ means / len(means) + within)
        self.feature_mean.copy_(basis @ centre)
        self.text_mean.copy_(vectors.mean(0))
        words = F.normalize(vectors - vectors.mean(0), dim=1)
        self._solved = Solved(basis, centre, means, strengths.clamp(min=0), rotation, words)
        self._solve()

    def _solve(self) -> None:
        if self._solved is not None:
            points = self.ridges.reshape(-1, len(self.RIDGES)).tolist()
            total = sum(self.solutions(self._solved, points), torch.zeros((), dtype=torch.float64))
            self.compatibility.copy_(self._solved.basis @ (total / len(points)))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Choose the ridges that validation does best with."""
        if self._solved is None or None not in self._given():
            return
        solved, parts = self._solved, []
        for batch in batches:
            z = (self.joint(batch).cpu().double() @ solved.basis - solved.centre).float()
            parts.append((z, batch.labels.cpu()))
        z, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        w = self.embed_classes(classes).cpu()
        seen = classes.seen.cpu()

        def quality(solution: Tensor) -> float:
            distances = self.compare(z @ solution.float(), w)
            steps = seen_unseen_curve(nearest(distances, seen), labels, seen)
            return float(harmonic_mean(steps.seen, steps.unseen).nan_to_num().max())

        given = self._given()
        grids = [grid if one is None else (one,) for one, grid in zip(given, self.RIDGES, strict=True)]
        points = list(product(*grids))
        found = dict(zip(points, map(quality, self.solutions(solved, points)), strict=True))
        least = NEAR_BEST * max(found.values())
        chosen = [ridges for ridges, value in found.items() if value >= least]
        self.take_validated({"ridges": torch.tensor(chosen, dtype=torch.float64)})

    def take_validated(self, values: Mapping[str, Tensor]) -> None:
        """Solve again with the ridges chosen."""
        self.ridges = values["ridges"].to(self.ridges)
        self._solve()

    def choices(self) -> tuple[str, ...]:
        """The ridges, where validation chose them."""
        if None not in self._given():
            return ()
        points = "; ".join(", ".join(f"{ridge:.3g}" for ridge in point) for point in self.ridges.tolist())
        return (f"ridges, shares of the trace: {points}",)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        resize_buffers(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def joint(self, batch: Batch) -> Tensor:
        """(B, Dv + Da): the averages of video and audio, each at unit length."""
        audio, video = self.averaged(batch)
        return torch.cat([F.normalize(video, dim=1), F.normalize(audio, dim=1)], dim=1)

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, E) the clips in the space of class vectors."""
        return (self.joint(batch) - self.feature_mean) @ self.compatibility

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, E) w of the candidates."""
        return F.normalize(classes.vectors - self.text_mean, dim=1)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Mean squared difference of the clips from their class vectors, for the record."""
        wanted = self.embed_classes(classes)[batch.labels]
        return {"squared_error": F.mse_loss(self.embed_clips(batch), wanted)}
