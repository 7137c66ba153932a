"""The formula of the label bridge, see ``sacma.frozen.bridge``, without its networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.scores import Matrix

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Unit vectors (K, E) of K texts."""


@dataclass(frozen=True)
class Constants:
    """The constants of a modality, named as in the head of ``sacma.frozen.bridge``.

    Attributes:
        tau: temperature of the softmax over labels.
        power: a, the exponent of the coverage.
        neutral: b, evidence that speaks neither for nor against a name.
        weight: of the modality, where both are there.
    """

    tau: float
    power: float
    neutral: float
    weight: float


CONSTANTS = {
    "audio": Constants(tau=0.035, power=0.5, neutral=0.35, weight=0.55),
    "video": Constants(tau=0.05, power=0.25, neutral=0.2, weight=0.45),
}
WEIGHTS = {modality: constants.weight for modality, constants in CONSTANTS.items()}
UNCOVERED = 0.2
"""c_0: a cosine at which a label tells nothing of a name."""
TEMPERATURE = 0.07
"""Of the softmax over names; fitted on the clips that the constants were chosen on."""
_REASONS = 3
_LEAST_REASON = 0.1
"""The least share of a reason in what speaks for a name."""


def relation(labels: NDArray[np.float32], names: NDArray[np.float32], c: Constants) -> tuple[Matrix, Matrix]:
    """Q (N, K) and c^a (K,) of labels (N, E) and names (K, E)."""
    cosine = labels.astype(np.float64) @ names.T.astype(np.float64)  # (N, K)
    q = np.exp((cosine - cosine.max(axis=0)) / c.tau)
    covered = (cosine.max(axis=0) - UNCOVERED) / (1 - UNCOVERED)
    return q / q.sum(axis=0), np.clip(covered, 0.02, 1.0) ** c.power


def compared(
    evidence: Matrix, labels: NDArray[np.float32], names: NDArray[np.float32], c: Constants
) -> Matrix:
    """s_m (B, K) of names (K, E), from evidence (B, N) for labels (N, E)."""
    q, coverage = relation(labels, names, c)
    return np.asarray(coverage * (evidence @ q - c.neutral))


@dataclass(frozen=True)
class Reading:
    """Evidence of one modality of a window, for ``reasons``.

    Attributes:
        evidence: (N,) for the labels; NaN counts as none.
        names: of the N labels.
        weights: (N,) what a label speaks for the name, see ``label_weights``.
    """

    evidence: NDArray[np.floating]
    names: Sequence[str]
    weights: Matrix


def label_weights(modality: str, labels: NDArray[np.float32], vector: NDArray[np.float32]) -> Matrix:
    """(N,) weights of the evidence for labels (N, E) in the score of a name (E,)."""
    q, coverage = relation(labels, vector[None], CONSTANTS[modality])
    return np.asarray(CONSTANTS[modality].weight * coverage[0] * q[:, 0])


def reasons(readings: Iterable[Reading]) -> tuple[str, ...]:
    """The labels that speak most for a name, at most three, strongest first, by what each modality says."""
    shares: dict[str, float] = {}
    for reading in readings:
        parts = reading.weights * np.nan_to_num(reading.evidence)
        for place in np.argsort(-parts)[: 2 * _REASONS]:
            name = reading.names[place]
            shares[name] = shares.get(name, 0.0) + max(0.0, float(parts[place]))
    total = sum(shares.values())
    ranked = sorted(shares, key=lambda name: -shares[name])
    return tuple(name for name in ranked[:_REASONS] if shares[name] > _LEAST_REASON * total)


def unit_means(encoder: Encode, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """(K, E) unit means of the unit vectors of each entry's texts."""
    flat = [text for some in texts for text in some]
    vectors = encoder(flat)
    ends = np.cumsum([len(some) for some in texts])
    sums = np.add.reduceat(vectors, np.concatenate([[0], ends[:-1]]), axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)
