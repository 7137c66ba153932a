"""KITE 0.1: a ridge classifier of seen classes, carried to unseen ones by class vectors, tuned by episodes.

Ours: neither in the SACMA paper nor in another one; docs/results/beyond.md says what it was made from and
what was left out. It is for few classes and few clips, where a learned projection of the class vectors bends
freely.

With z the joint features of a clip, (video, audio, beta C), less their mean over the k training classes, and
w a class vector less the mean of the training classes' vectors, at unit length:

    r(u) = sign(u) sqrt(|u|) / its norm
    video, audio = r(mean over time)
    C = mean_t P r(a_t) (Q r(v_t) - mean)^T / its norm  what sound and picture do together, (32 * 32,)
    e(x) = Y^T Z (Z^T Z + rho |Z|^2 I)^-1 z             evidence for each training class, (k,)
    b(c) = w_c W^T (W W^T + (sigma / k) I)^-1           class c as a mixture of training classes, (k,)
    d(x, c) = -cos(e(x), b(c)) - [c seen] (eta cos(z, m_c) - tau)

Z (n, d) are the training clips, Y (n, k) their classes with equal weight for each class, |Z|^2 the sum of all
squares, W the training classes' vectors and m_c the mean of class c. v_t is the step of the video nearest in
time to the step t of the sound; P and Q are fixed random projections, which keep products, of what is wider
than 32. C is the covariance of both over the clip, which averages over time lose; zero for features that are
averages already. The first term compares a clip with any class that has a vector. The second is the gate:
who is near the mean of a seen class is of a seen class.

rho, eta and tau come from episodes within the training clips. Each hides a third of the training classes and
a fifth of the clips of the others, solves for the rest, and tells what is hidden apart among all training
classes: generalised zero-shot recognition in small. The triple with the largest mean harmonic mean wins. tau
is thus calibrated stacking (Chao et al., ECCV 2016) without a validation set; no other bias is searched for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.metrics.gzsl import harmonic_mean
from sacma.models.base import Method
from sacma.models.configs.fitted import KITEFirstConfig
from sacma.models.kite_episodes import Episode, draw_episodes, shares
from sacma.models.kite_features import (
    LEAST_COVARIANCE,
    ROWS_AT_ONCE,
    TINY,
    covariances,
    principal,
    projection,
)
from sacma.models.layers import concatenated
from sacma.types import Batch, ClassSet

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
GATES = (0.0, 0.5, 1.0, 2.0, 4.0)
OFFSETS = 49  # values of tau that are tried, evenly spaced quantiles of the margins
LEAST_CLASSES = 3


class Solution(NamedTuple):
    """Statistics of n clips of k classes, in a space of r dimensions.

    Attributes:
        centre: (r,) mean of the class means.
        means: (k, r) class means, less the centre.
        weights: (len(ridges), r, k) evidence of each class for each ridge.
    """

    centre: Tensor
    means: Tensor
    weights: Tensor


class Told(NamedTuple):
    """Outcome of the q queries of an episode.

    Attributes:
        margin: (q,) by how much the nearest seen class beats the nearest hidden one.
        seen_right: (q,) a query's share in S where the nearest seen class is its own, else 0.
        hidden_right: (q,) its share in U where the nearest hidden class is its own, else 0.
    """

    margin: Tensor
    seen_right: Tensor
    hidden_right: Tensor

    def harmonic_means(self, taus: Tensor) -> Tensor:
        """(len(taus),): the answer is the nearest seen class where the margin is above tau."""
        says_seen = self.margin > taus[:, None]  # (len(taus), q)
        return harmonic_mean(says_seen.double() @ self.seen_right, (~says_seen).double() @ self.hidden_right)


class KITEFirst(Method):
    """Closed form; nothing is trained by gradient steps."""

    Config = KITEFirstConfig

    OUTPUTS: ClassVar[Sequence[str]] = ("evidence",)
    calibrated = False
    learns_by_gradient = False
    needs_fit = True
    compares_embeddings = False
    takes_averages = True
    config: KITEFirstConfig
    audio_projection: Tensor
    video_projection: Tensor
    centre: Tensor
    means: Tensor
    weights: Tensor
    vectors: Tensor
    chosen: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        # Saved with the rest: no model depends on how a later torch draws random numbers.
        self.register_buffer("audio_projection", projection(c.audio_width, seed=0))
        self.register_buffer("video_projection", projection(c.video_width, seed=1))
        width = c.video_width + c.audio_width
        if self._uses_covariance:
            width += self.audio_projection.shape[1] * self.video_projection.shape[1]
        # Nothing is known before fit; then there are as many rows as training classes.
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("means", torch.zeros(0, width))  # of the classes, at unit length
        self.register_buffer("weights", torch.zeros(0, width))  # of the evidence
        self.register_buffer("vectors", torch.zeros(0, c.text_width))  # of the training classes
        self.register_buffer("chosen", torch.zeros(3))  # rho, eta, tau

    @classmethod
    def is_own(cls, config: Mapping[str, Any]) -> bool:
        """True if hyperparameters are of this version: it alone has a power."""
        return "power" in config

    @property
    def _uses_covariance(self) -> bool:
        return self.config.synchrony > 0 and self.config.streams == "av"

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Choose rho, eta and tau by episodes and solve on the training clips; unseen vectors play no part.

        Raises:
            SacmaError: a clip is of an unseen class, or there are clips of fewer than three classes.
        """
        parts = [(self.features(batch).cpu(), batch.labels.cpu()) for batch in batches]
        features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        if not classes.seen.cpu()[labels].all():
            raise SacmaError("KITE 0.1 got a clip of an unseen class; give training clips only")
        known, labels = labels.unique(return_inverse=True)
        if len(known) < LEAST_CLASSES:
            raise SacmaError(
                f"KITE 0.1 got training clips of {len(known)} classes; it needs at least {LEAST_CLASSES}"
            )
        # In double precision, on the processor: the ridge may be far below the largest eigenvalue.
        vectors = classes.vectors.cpu()[known].double()
        basis = principal(features, self.config.rank)
        z = torch.cat([rows.double() @ basis for rows in features.split(ROWS_AT_ONCE)])  # (n, r)
        rho, eta, tau = self._choose(z, labels, vectors)
        solution = solve(z, labels, len(known), (rho,))
        self.centre = self._kept(basis @ solution.centre)
        self.means = self._kept(F.normalize(solution.means, dim=1) @ basis.T)
        self.weights = self._kept((basis @ solution.weights[0]).T)
        self.vectors = self._kept(vectors)
        self.chosen = self._kept(torch.tensor([rho, eta, tau]))

    def _kept(self, value: Tensor) -> Tensor:
        return value.to(self.chosen).contiguous()

    def _choose(self, z: Tensor, labels: Tensor, vectors: Tensor) -> tuple[float, float, float]:
        """Rho, eta and tau with the largest mean harmonic mean over the episodes."""
        c = self.config
        ridges = RIDGES if c.ridge is None else (c.ridge,)
        gates = GATES if c.gate is None else (c.gate,)
        pairs = [(rho, eta) for rho in ridges for eta in gates]
        hide = max(1, round(len(vectors) / 3))
        drawn = draw_episodes(labels, len(vectors), c.episodes, hide=hide)
        told = [list(self._tell(episode, z, labels, vectors, ridges, gates)) for episode in drawn]
        best = (-1.0, 0.0, 0.0, 0.0)
        for (rho, eta), of_pair in zip(pairs, zip(*told, strict=True), strict=True):
            taus = torch.cat([one.margin for one in of_pair]).quantile(
                torch.linspace(0, 1, OFFSETS, dtype=z.dtype)
            )
            found = torch.stack([one.harmonic_means(taus) for one in of_pair]).mean(0)
            mean, place = found.max(0)
            best = max(best, (float(mean), rho, eta, float(taus[place])))  # of equals, the strongest ridge
        return best[1:]

    def _tell(
        self,
        episode: Episode,
        z: Tensor,
        labels: Tensor,
        vectors: Tensor,
        ridges: Sequence[float],
        gates: Sequence[float],
    ) -> Iterator[Told]:
        """Tell the queries of an episode apart, for each pair of ridge and gate."""
        hidden, seen = episode.hidden, ~episode.hidden
        position = seen.cumsum(0) - 1
        solution = solve(z[episode.training], position[labels[episode.training]], int(seen.sum()), ridges)
        query, of = z[episode.query] - solution.centre, labels[episode.query]
        mixtures = F.normalize(self._mixtures(vectors, vectors[seen]), dim=1)  # (k, seen)
        near = F.normalize(query, dim=1) @ F.normalize(solution.means, dim=1).T  # (q, seen)
        share = shares(of, hidden)
        for weights in solution.weights:
            likeness = F.normalize(query @ weights, dim=1) @ mixtures.T  # (q, k)
            at_hidden, hidden_answer = likeness[:, hidden].max(1)
            hidden_right = hidden.nonzero().squeeze(1)[hidden_answer] == of
            for eta in gates:
                at_seen, seen_answer = (likeness[:, seen] + eta * near).max(1)
                seen_right = seen.nonzero().squeeze(1)[seen_answer] == of
                yield Told(at_seen - at_hidden, seen_right * share, hidden_right * share)

    def _mixtures(self, vectors: Tensor, training: Tensor) -> Tensor:
        """(K, k): b, from (K, E) class vectors and those of the k training classes."""
        mean = training.mean(0)
        w, known = F.normalize(vectors - mean, dim=1), F.normalize(training - mean, dim=1)
        ridge = self.config.smoothing / len(known)
        gram = known @ known.T + ridge * torch.eye(len(known)).to(known)
        return torch.linalg.solve(gram, known @ w.T).T

    def features(self, batch: Batch) -> Tensor:
        """Joint features (B, Dv + Da + 32 * 32); zeros for a modality that is absent or not in use."""
        c = self.config
        audio, video = self.scaled(batch)
        joint = concatenated(
            self._rooted(audio.mean()) * ("a" in c.streams),
            self._rooted(video.mean()) * ("v" in c.streams),
            unit=False,
        )
        if not self._uses_covariance:
            return joint
        covariance = covariances(
            audio.with_values(self._rooted(audio.values) @ self.audio_projection),
            video.with_values(self._rooted(video.values) @ self.video_projection),
        )
        together = F.normalize(covariance.flatten(1), dim=1, eps=LEAST_COVARIANCE)
        return torch.cat([joint, c.synchrony * together], dim=1)

    def _rooted(self, x: Tensor) -> Tensor:
        """R, of (N, D) rows."""
        return F.normalize(x.sign() * x.abs().sqrt() if self.config.power == "root" else x, dim=1)

    def evidence(self, batch: Batch) -> Tensor:
        """e, (B, k)."""
        return (self.features(batch) - self.centre) @ self.weights.T

    def distances(self, batch: Batch, classes: ClassSet, *, output: str | None = None) -> Tensor:
        """(B, K): d; the seen classes among the candidates are found among the training classes by vector.

        Raises:
            SacmaError: the method was not fitted.
        """
        if not len(self.vectors):
            raise SacmaError("KITE 0.1 has seen no clips yet; fit it to training clips first")
        z = self.features(batch) - self.centre
        mixtures = F.normalize(self._mixtures(classes.vectors, self.vectors), dim=1)
        distance = -F.normalize(z @ self.weights.T, dim=1) @ mixtures.T  # (B, K)
        near = F.normalize(z, dim=1) @ self.means.T  # (B, k)
        own = torch.cdist(classes.vectors, self.vectors).argmin(1)  # (K,) the training class of a seen one
        _, eta, tau = self.chosen
        return distance - classes.seen * (eta * near[:, own] - tau)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Mean squared evidence, for the record; nothing follows its gradient."""
        evidence = self.evidence(batch)
        return {"squared_evidence": evidence.square().mean() if evidence.numel() else evidence.sum()}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in ("means", "weights", "vectors"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def solve(z: Tensor, labels: Tensor, classes: int, ridges: Sequence[float]) -> Solution:
    """The ridge classifier of (n, r) clips with equal weight for each class; every class has a clip."""
    counts = torch.bincount(labels, minlength=classes).to(z)
    means = torch.zeros(classes, z.shape[1], dtype=z.dtype).index_add(0, labels, z) / counts[:, None]
    centre = means.mean(0)
    means, z = means - centre, z - centre
    # Y has n / k over the count of its class at a clip's class, less its mean over the clips.
    targets = (len(z) * means - z.sum(0)) / classes  # Y^T Z, (k, r)
    values, rotation = torch.linalg.eigh(z.T @ z)
    ridge = torch.tensor(ridges, dtype=z.dtype)[:, None] * z.square().sum()
    inverse = 1 / (values.clamp(min=0) + ridge.clamp(min=TINY))  # (ridges, r)
    weights = (rotation * inverse[:, None]) @ (rotation.T @ targets.T)  # (ridges, r, k)
    return Solution(centre, means, weights)
