"""Metrics of test clips that have several right classes, as VGGSounder has (Zverev et al., ICCV 2025).

An answer is right if it is any of a clip's classes. The accuracy of a class is that over the clips that have
it, so a clip counts for each of its classes; S, U, HM and ZSL are made of these accuracies as for single
classes. Average precision ranks the clips by their distance to a class.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sacma.errors import SacmaError
from sacma.metrics.gzsl import harmonic_mean
from sacma.metrics.retrieval import retrieval

TOP = 5


@dataclass(frozen=True, kw_only=True)
class MultiLabelResult:
    """Figures of clips with several right classes, as fractions; nan where there is nothing to average.

    Attributes:
        seen: S, mean over seen classes of the accuracy over the clips that have the class.
        unseen: U, the same over unseen classes.
        harmonic_mean: 2SU / (S + U).
        zsl: as U, of the clips that have an unseen class, only unseen classes being candidates.
        hit: share of clips whose answer is right.
        hit_top: share of clips with a right class among the first ``TOP`` answers.
        map_seen: mean over seen classes of the average precision of their clips.
        map_unseen: the same over unseen classes.
        bias: what was added to the distances of seen classes.
        clips: number of clips.
        classes_per_clip: mean number of right classes.
    """

    seen: float
    unseen: float
    harmonic_mean: float
    zsl: float
    hit: float
    hit_top: float
    map_seen: float
    map_unseen: float
    bias: float
    clips: int
    classes_per_clip: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        plain = asdict(self)
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in plain.items()
        }


def evaluate_multilabel(distances: Tensor, right: Tensor, seen: Tensor, *, bias: float) -> MultiLabelResult:
    """Compute all figures at a given bias.

    Args:
        distances: (N, K), smaller is nearer.
        right: (N, K) bool, the right classes of each clip, at least one.
        seen: (K,) bool.
        bias: added to the distances of seen classes.

    Raises:
        SacmaError: a clip has no right class.

    Example:
        >>> distances = torch.tensor([[0.1, 0.2], [0.3, 0.2]])
        >>> right = torch.tensor([[True, True], [True, False]])
        >>> found = evaluate_multilabel(distances, right, torch.tensor([True, False]), bias=0.0)
        >>> found.seen, found.unseen, found.hit
        (0.5, 1.0, 0.5)
    """
    if not bool(right.any(dim=1).all()):
        clip = int((~right.any(dim=1)).nonzero()[0])
        raise SacmaError(f"clip {clip} has no right class among the candidates")
    biased = distances.double() + bias * seen.double()
    hit = _hits(biased, right)  # (N,)
    S, U = (_class_mean(hit, right[:, mask]) for mask in (seen, ~seen))
    unseen_right = right[:, ~seen]
    have = unseen_right.any(dim=1)
    zsl = math.nan
    if bool(have.any()):
        alone = _hits(distances[have][:, ~seen].double(), unseen_right[have])
        zsl = _class_mean(alone, unseen_right[have])
    top = biased.topk(min(TOP, biased.shape[1]), dim=1, largest=False).indices
    return MultiLabelResult(
        seen=S,
        unseen=U,
        harmonic_mean=float(harmonic_mean(torch.tensor(S), torch.tensor(U))),
        zsl=zsl,
        hit=float(hit.double().mean()),
        hit_top=float(right.gather(1, top).any(dim=1).double().mean()),
        map_seen=_average_precision(distances[:, seen], right[:, seen]),
        map_unseen=_average_precision(distances[:, ~seen], right[:, ~seen]),
        bias=bias,
        clips=len(right),
        classes_per_clip=float(right.sum(dim=1).double().mean()),
    )


def _hits(distances: Tensor, right: Tensor) -> Tensor:
    """(N,) bool, True where the nearest class is right; of equally near ones the first is the answer."""
    return right.gather(1, distances.argmin(dim=1, keepdim=True)).squeeze(1)


def _class_mean(hit: Tensor, right: Tensor) -> float:
    """The mean over classes with clips of the share of their clips that are hit."""
    clips = right.sum(dim=0)
    hits = (right & hit[:, None]).sum(dim=0)
    return float((hits[clips > 0].double() / clips[clips > 0]).mean())


def _average_precision(distances: Tensor, right: Tensor) -> float:
    found = retrieval(distances.T.double(), right.T)
    return found.mean_average_precision if found.queries else math.nan
