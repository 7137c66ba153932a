"""Scores of a frozen model as probabilities and ranked names; without torch, which libraries do not load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sacma.frozen.scores import Matrix, Names, Scores
from sacma.predict.answers import Answer


def probabilities(scores: Scores) -> tuple[Matrix, dict[str, Matrix]]:
    """(B, K) probabilities of all modalities together, and those of each alone."""
    return softmax(scores.joint), {modality: softmax(own) for modality, own in scores.alone.items()}


def softmax(scores: Matrix) -> Matrix:
    """(B, K) probabilities of rows of logits; rows of NaN stay so."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def ranked(probability: Sequence[float] | np.ndarray, names: Names, top: int) -> tuple[Answer, ...]:
    """The ``top`` most probable of K names, best first; of equal ones the first."""
    values = np.asarray(probability)
    best = np.argsort(-values, kind="stable")[:top]
    return tuple(Answer(names.given[row].name, float(values[row]), seen=False) for row in best)
