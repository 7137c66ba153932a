"""Calibrated probabilities: distances scaled by one temperature, fitted on validation, and their reliability.

    p(k) = softmax over k of -(d_k + bias [k is seen]) / T

T minimises the negative log-likelihood of the right classes of validation clips, temperature scaling: Guo et
al., "On calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from sacma.errors import SacmaError
from sacma.files import is_number

BINS = 10
_LOWEST, _HIGHEST = 1e-4, 1e4
"""Temperatures that are looked at, in units of the spread of a clip's distances."""


def probabilities(distances: Tensor, seen: Tensor, *, bias: float, temperature: float) -> Tensor:
    """Return the probabilities of the candidates, (N, K) float64.

    Args:
        distances: (N, K), smaller is nearer.
        seen: (K,) bool, the candidates whose distances the bias is added to.
        bias: of calibrated stacking.
        temperature: T, above 0.
    """
    return (-_biased(distances, seen, bias) / temperature).softmax(dim=1)


def fit_temperature(distances: Tensor, labels: Tensor, seen: Tensor, *, bias: float) -> float:
    """Return the T with the least negative log-likelihood of the labels.

    The likelihood has one maximum in 1 / T, found by bisection: there the mean distance of the right class
    equals the mean distance expected by the probabilities. Where all answers are right with certainty, or
    none is better than chance, T is an end of the range of the search.

    Args:
        distances: (N, K) of N >= 1 validation clips.
        labels: (N,) positions among the K candidates.
        seen: (K,) bool.
        bias: of calibrated stacking.
    """
    biased = _biased(distances, seen, bias)
    right = biased.gather(1, labels[:, None]).mean()
    spread = float(biased.std(dim=1, correction=0).mean())
    if not spread > 0:  # one candidate, or all equally far: any T gives the same
        return 1.0
    low, high = math.log(_LOWEST * spread), math.log(_HIGHEST * spread)
    for _ in range(50):
        middle = (low + high) / 2
        expected = ((-biased / math.exp(middle)).softmax(dim=1) * biased).sum(dim=1).mean()
        low, high = (middle, high) if right > expected else (low, middle)  # too sure: a higher temperature
    return math.exp((low + high) / 2)


@dataclass(frozen=True)
class Reliability:
    """Accuracy as a function of the top probability, the data of a reliability diagram.

    Attributes:
        clips: N.
        accuracy: share of clips whose most probable candidate is the right one.
        confidence: mean probability of the most probable candidate.
        ece: expected calibration error, the mean over clips of |accuracy - confidence| of their bin.
        nll: mean negative log-likelihood of the right candidate, in nats.
        bin_clips: clips whose top probability is in each of B bins of equal width from 0 to 1.
        bin_accuracy: accuracy in each bin; None in an empty one.
        bin_confidence: mean top probability in each bin; None in an empty one.
    """

    clips: int
    accuracy: float
    confidence: float
    ece: float
    nll: float
    bin_clips: tuple[int, ...]
    bin_accuracy: tuple[float | None, ...]
    bin_confidence: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object) -> Self:
        """Read the output of ``to_dict``.

        Raises:
            SacmaError: a field is missing or of another type.
        """
        names = [one.name for one in fields(cls)]
        if not isinstance(content, dict) or content.keys() != set(names):
            raise SacmaError(f"not the reliability of a run: expected the fields {', '.join(names)}")
        for name, value in content.items():
            numbers = value if name.startswith("bin_") else [value]
            empty = name in ("bin_accuracy", "bin_confidence")
            if not isinstance(numbers, list | tuple) or not all(
                is_number(one) or (one is None and empty) for one in numbers
            ):
                raise SacmaError(f"not the reliability of a run: {name} is of another type")
        lists = {name: tuple(value) for name, value in content.items() if name.startswith("bin_")}
        return cls(**{**content, **lists})


def reliability(scores: Tensor, labels: Tensor, *, bins: int = BINS) -> Reliability:
    """Compare the top probabilities with the accuracy of the answers.

    Args:
        scores: (N, K) probabilities, N >= 1.
        labels: (N,) positions among the K candidates.
        bins: number of bins.
    """
    top, answer = scores.double().max(dim=1)
    right = (answer == labels).double()
    place = (top * bins).long().clamp(max=bins - 1)  # (N,)
    clips = torch.bincount(place, minlength=bins)
    hits = torch.bincount(place, weights=right, minlength=bins)
    sure = torch.bincount(place, weights=top, minlength=bins)
    likelihood = scores.double().gather(1, labels[:, None]).clamp(min=torch.finfo(torch.float64).tiny)

    def means(total: Tensor) -> tuple[float | None, ...]:
        pairs = zip(total.tolist(), clips.tolist(), strict=True)
        return tuple(value / count if count else None for value, count in pairs)

    return Reliability(
        clips=len(labels),
        accuracy=right.mean().item(),
        confidence=top.mean().item(),
        ece=((hits - sure).abs().sum() / len(labels)).item(),
        nll=-likelihood.log().mean().item(),
        bin_clips=tuple(clips.tolist()),
        bin_accuracy=means(hits),
        bin_confidence=means(sure),
    )


def _biased(distances: Tensor, seen: Tensor, bias: float) -> Tensor:
    return distances.double().cpu() + bias * seen.double().cpu()
