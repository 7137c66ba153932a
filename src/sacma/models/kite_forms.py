"""The closed forms that KITE adds up, from sufficient statistics of the training clips.

With k training classes, m_c the mean of class c less the mean of all, T the pooled scatter within classes,
z a clip less the mean of all, w the class vectors less the mean of the training classes', at unit length:

    G = M^T M / k + T / n                       covariance, every class alike
    e(x) = M (G + rho tr(G) I)^-1 z             evidence for each training class, (k,)
    b(c) = w_c W^T (W W^T + (sigma / k) I)^-1   class c as a mixture of training classes, (k,)
    n(c) = h(w_c, W) (h(W, W) + nu I)^-1        the same by likeness, h(w, w') = exp((cos(w, w') - 1) / 0.4)

and for each ridge rho five scores of a clip and a class that has nothing but a vector,

    mixture     cos(e(x), b(c))
    bilinear    e(x)^T (2 W - 1 1^T W) (W^T W + mu tr(W^T W) I)^-1 w_c     ESZSL's
    words       cos(W^T e(x), w_c)                                         a ridge to class vectors
    prototypes  cos(V z, V M^T b'(c))    V whitens the scatter within classes, b' is b with sigma = 2 k
    neighbours  cos(V z, V M^T n(c))     n has little weight on unlike classes, b as much as on like ones

and three gates, of a clip and a training class: near = cos(z, m_c), and for each rho own = cos(V z, V m_c)
and evidence = e(x)_c. The statistics, that is counts, sums and second moments, add up over clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.models.moments import Statistics

SCORES = ("mixture", "bilinear", "words", "prototypes", "neighbours")
RIDGES = (3e-4, 1e-2, 0.3)  # rho
WORD_RIDGE = 0.3  # mu
SMOOTH = 2.0  # sigma / k of the prototypes
LIKENESS = 0.4  # the difference in cosine at which a class is e times less like another one
LIKENESS_RIDGE = 0.3  # nu
LEAST_STRENGTH = 1e-6


class Words(NamedTuple):
    """Statistics of the vectors of the k training classes, E wide.

    Attributes:
        centre: (E,) their mean.
        known: (k, E) less the mean, at unit length.
        mixture: (k, k) inverse of the mixtures.
        smooth: (k, k) inverse of the prototypes' mixtures.
        targets: (k, E) what the bilinear form maps evidence to.
        likeness: (k, k) inverse of the mixtures by likeness.
    """

    centre: Tensor
    known: Tensor
    mixture: Tensor
    smooth: Tensor
    targets: Tensor
    likeness: Tensor

    @classmethod
    def of(cls, vectors: Tensor, smoothing: float) -> Words:
        """Those of (k, E) vectors; ``smoothing`` is sigma."""
        vectors = vectors.double()
        centre = vectors.mean(0)
        known = F.normalize(vectors - centre, dim=1)
        gram = known @ known.T
        one = torch.eye(len(known), dtype=torch.float64)
        scatter = known.T @ known
        ridge = WORD_RIDGE * scatter.trace() * torch.eye(len(scatter), dtype=torch.float64)
        targets = torch.linalg.solve(scatter + ridge, (2 * known - known.sum(0)).T).T
        mixture, smooth = (torch.linalg.inv(gram + by * one) for by in (smoothing / len(known), SMOOTH))
        likeness = torch.linalg.inv(_likeness(gram) + LIKENESS_RIDGE * one)
        return cls(centre, known, mixture, smooth, targets, likeness)

    def of_candidates(self, vectors: Tensor) -> Tensor:
        """(K, E) at unit length, of (K, E) vectors."""
        return F.normalize(vectors - self.centre, dim=1)


def _likeness(cosines: Tensor) -> Tensor:
    return ((cosines - 1) / LIKENESS).exp()


class Solution(NamedTuple):
    """Closed-form solutions for k classes in r dimensions, for each of R ridges.

    Attributes:
        centre: (r,) mean of the class means.
        means: (k, r) class means less the centre, at unit length.
        weights: (R, r, k) of the evidence.
        scale: (R, 2) scale of evidence and of the bilinear scores.
        whiten: (R, k, k) from evidence to whitened coordinates.
        own: (R, k, k) whitened class means.
    """

    centre: Tensor
    means: Tensor
    weights: Tensor
    scale: Tensor
    whiten: Tensor
    own: Tensor


def solve(statistics: Statistics, words: Words, ridges: Sequence[float]) -> Solution:
    """Solve, in float64; every class has a clip."""
    counts, sums, second = statistics
    means = sums / counts[:, None]
    within = (second - sums.T @ means) / counts.sum()
    centre = means.mean(0)
    means = means - centre
    covariance = means.T @ means / len(means) + within
    trace = covariance.trace().clamp(min=LEAST_STRENGTH**2)
    parts = [_ridge(covariance, rho * trace, means, words) for rho in ridges]
    return Solution(centre, F.normalize(means, dim=1), *map(torch.stack, zip(*parts, strict=True)))


def _ridge(
    covariance: Tensor, ridge: Tensor, means: Tensor, words: Words
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, scale, whiten and own of ``Solution`` for one ridge."""
    k = len(means)
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
    weights = torch.cholesky_solve(means.T, factor)  # (r, k)
    products = means @ weights  # (k, k) evidence of the class means
    bilinear = products @ words.targets @ words.known.T
    scale = torch.stack([products.diagonal().mean(), bilinear.std(correction=0)])
    # Along the axes of the class means, the covariance of whitened features is 1, strength between classes.
    strength, axes = torch.linalg.eigh((products + products.T) / (2 * k))
    kept = strength > LEAST_STRENGTH
    strength = strength.clamp(LEAST_STRENGTH, 1 - LEAST_STRENGTH)
    root, within = (k * strength).sqrt(), (1 - strength).sqrt()
    return weights, scale.clamp(min=1e-12), axes * kept / (root * within), axes * kept * root / within


def terms(
    solution: Solution, words: Words, z: Tensor, candidates: Tensor
) -> Iterator[tuple[str, bool, Tensor]]:
    """All scores and gates of (q, r) clips.

    Args:
        solution: for the training clips.
        words: of the training classes.
        z: the clips, in the space of the statistics.
        candidates: (K, E) class vectors as ``Words.of_candidates`` gives them.

    Yields:
        Name, whether it is a gate, and values: (q, K) of a score, (q, k) of a gate.
    """
    z = z - solution.centre
    like = candidates @ words.known.T  # (K, k)
    mixtures = F.normalize(like @ words.mixture, dim=1)
    smooth = like @ words.smooth
    neighbours = _likeness(like) @ words.likeness
    yield "near", True, F.normalize(z, dim=1) @ solution.means.T
    for weights, scale, whiten, own in zip(*solution[2:], strict=True):
        evidence = z @ weights  # (q, k)
        white = F.normalize(evidence @ whiten, dim=1)
        yield "mixture", False, F.normalize(evidence, dim=1) @ mixtures.T
        yield "bilinear", False, (evidence @ words.targets) @ candidates.T / scale[1]
        yield "words", False, F.normalize(evidence @ words.known, dim=1) @ candidates.T
        yield "prototypes", False, white @ F.normalize(smooth @ own, dim=1).T
        yield "neighbours", False, white @ F.normalize(neighbours @ own, dim=1).T
        yield "own", True, white @ F.normalize(own, dim=1).T
        yield "evidence", True, evidence / scale[0]
