"""Rejection: detect that none of the names at hand fits a clip.

The names compete with some hundred everyday names, the terms of ``data/glossary.txt`` without those that are
nearly among them. For a model with a softmax over names

    fit = logsumexp of the names' scores - logsumexp of the everyday names' scores

and for one with a sigmoid for each name the largest of the names' own logits. A clip is rejected where the
fit lies below a threshold. For the label bridge thresholds are known by the share of clips that are rejected
though one name is right, measured on 104 clips with ten names. For other models no rate is known, and the
threshold is 0: as probable as the everyday names, or a probability of one half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName, everyday_terms
from sacma.frozen.scores import FrozenModel, Matrix, Names, Window
from sacma.media.extract import ClipFeatures

RATES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30)
OF_BOTH = (-5.0, -4.8, -4.2, -3.4, -2.7, -2.3)
OF_ONE = (-8.5, -7.5, -6.2, -5.0, -3.8, -3.0)
"""Thresholds of the label bridge by rate, for clips with sound and pictures and for others."""
_SAME = 0.75
"""Cosine from which on an everyday name is taken for one of the names, in a space of sentences."""


class Rejection:
    """The everyday names of a model, encoded once, and the threshold.

    Args:
        model: whose scores are looked at.
        rate: share of clips that may be rejected though a name is right, ``RATES[0]`` to ``RATES[-1]``.

    Raises:
        SacmaError: the rate is out of range.
    """

    def __init__(self, model: FrozenModel, rate: float) -> None:
        if not RATES[0] <= rate <= RATES[-1]:
            raise SacmaError(f"a share of {rate:g} to reject; choose one from {RATES[0]:g} to {RATES[-1]:g}")
        self._model = model
        self._everyday = model.names([ClassName(term) for term in everyday_terms()])
        self._rate = rate
        self.note = None if model.calibrated else f"no rate of wrong rejections is known for {model.name}"

    def threshold(self, features: ClipFeatures) -> float:
        """The fit below which a clip is rejected."""
        if not self._model.calibrated:
            return 0.0
        steps = {"audio": features.audio, "video": features.video}
        read = [modality for modality in self._model.modalities if steps[modality] is not None]
        return float(np.interp(self._rate, RATES, OF_BOTH if len(read) > 1 else OF_ONE))

    def fit(self, features: ClipFeatures, window: Window, names: Names, scores: Matrix) -> float:
        """Score the fit of the names to a clip, against everyday names or alone; see the head of this file.

        Args:
            features: of the clip.
            window: the part of it that was scored.
            names: the names at hand.
            scores: (1, K) of the names.
        """
        if self._model.sigmoid_bias is not None:
            return float(scores.max() + self._model.sigmoid_bias)
        others = self._model.scores(features, [window], self._everyday).joint[0]
        different = others[self._different(names)]
        return float(np.logaddexp.reduce(scores[0]) - np.logaddexp.reduce(different))

    def _different(self, names: Names) -> NDArray[np.bool_]:
        """(E,) the everyday names that are not nearly among the names."""
        own = [set(name.texts[0].split()) for name in names.given]
        everyday = [set(name.name.split()) for name in self._everyday.given]
        different = np.array([not any(term <= one or one <= term for one in own) for term in everyday])
        if "text" in names.vectors:
            cosine = self._everyday.vectors["text"] @ names.vectors["text"].T  # (E, K)
            different &= cosine.max(axis=1) < _SAME
        return different
