"""The scores of a frozen model for windows of a clip, and the interface that all frozen models share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.descriptions import ClassName
from sacma.media.backbones import Backbone, Steps, steps_seen
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures
from sacma.media.sources import ClipSource
from sacma.progress import OnProgress

Matrix = NDArray[np.float64]
Window = tuple[float, float]
"""Start and end in seconds from the beginning of the features."""


class Nothing:
    """Placeholder encoder of a modality that a model does not read: none of it is decoded."""

    name = "none"
    version = "1"
    licence = "none"
    checksum = "none"
    width = 1
    step_seconds = 0.0
    rate = 16_000
    size = None

    def encode(self, stream: Iterable[Any]) -> Steps | None:
        """No steps."""
        return None


@dataclass(frozen=True)
class FrozenFeatures(ClipFeatures):
    """Features of a clip by a model with an embedding of sound and pictures together.

    Attributes:
        joint: the steps of that embedding, None where a modality is missing.
    """

    joint: Steps | None = None


def clip_features(
    steps: Mapping[str, Steps], notes: Sequence[str] = (), seconds: float | None = None
) -> ClipFeatures:
    """Features of a clip from its steps by name (``audio``, ``video``, ``joint``), each perhaps missing."""
    plain = (steps.get("audio"), steps.get("video"), tuple(notes), seconds)
    return FrozenFeatures(*plain, joint=steps["joint"]) if "joint" in steps else ClipFeatures(*plain)


@dataclass(frozen=True)
class Scores:
    """Scores of B windows for K names, larger is better; they are logits of a softmax over the names.

    Attributes:
        joint: (B, K) of all modalities that a window has.
        alone: modality (``audio`` or ``video``) -> (B, K) of that modality;
            rows of NaN where a window lacks it.
    """

    joint: Matrix
    alone: Mapping[str, Matrix]


@dataclass(frozen=True)
class Names:
    """Class names as a model has encoded them.

    Attributes:
        given: the names.
        vectors: text space -> (K, E), unit rows.
        notes: remarks, such as texts that were cut.
    """

    given: tuple[ClassName, ...]
    vectors: Mapping[str, NDArray[np.float32]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.given)


class FrozenModel(Protocol):
    """A pretrained model that scores clips against class names without training."""

    @property
    def name(self) -> str:
        """Name of the model for users."""
        ...

    @property
    def backbone(self) -> Backbone:
        """Backbone that turns a clip into the features that ``scores`` takes."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it reads: ``audio``, ``video`` or both."""
        ...

    @property
    def calibrated(self) -> bool:
        """The temperature of its probabilities was fitted on clips."""
        ...

    @property
    def sigmoid_bias(self) -> float | None:
        """Bias that makes a joint score the logit of a sigmoid; None for models with a softmax over names."""
        ...

    @property
    def advice(self) -> str:
        """Advice on how to get the modality that it does not read; follows that remark; may be empty."""
        ...

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures:
        """Features of a clip, or of its part from ``start`` to ``end`` seconds.

        Raises:
            SacmaError: see ``sacma.media.extract.extract_clip``.
        """
        ...

    def names(self, given: Sequence[ClassName], *, on_progress: OnProgress | None = None) -> Names:
        """Encode class names.

        Args:
            given: the names.
            on_progress: called with the names done and all names.

        Raises:
            SacmaError: a name cannot be encoded.
        """
        ...

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        """Scores of windows of a clip for names.

        Raises:
            SacmaError: the clip has none of the modalities that the model reads.
        """
        ...

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        """Words for the strongest reasons for name ``best``; empty for models that cannot tell."""
        ...


def joined(alone: Mapping[str, Matrix], weights: Mapping[str, float]) -> Matrix:
    """(B, K) weighted means over the modalities that each window has.

    Args:
        alone: modality -> (B, K), rows of NaN where a window lacks the modality.
        weights: modality -> weight.
    """
    stacked = np.stack([alone[modality] for modality in alone])  # (M, B, K)
    there = ~np.isnan(stacked[:, :, :1])  # (M, B, 1)
    w = np.array([weights[modality] for modality in alone])[:, None, None] * there
    return np.asarray((np.where(there, stacked, 0.0) * w).sum(axis=0) / w.sum(axis=0))


def mean_steps(
    values: NDArray[np.floating],
    step_seconds: float,
    windows: Sequence[Window],
    *,
    looks: float | None = None,
) -> Matrix:
    """(B, D) means of the steps seen in each window, or of the one that goes on; NaN without any.

    Args:
        values: (T, D), one row a step.
        step_seconds: from one step to the next.
        looks: seconds that a step looks at, by default a step's.
        windows: B pairs of start and end in seconds.
    """
    rows = []
    for start, end in windows:
        seen = steps_seen(len(values), step_seconds, step_seconds if looks is None else looks, start, end)
        if seen.start >= seen.stop:  # within a step that began before
            within = int(start / step_seconds + 1e-6)
            seen = slice(within, within + 1)
        some = values[seen]
        rows.append(some.mean(axis=0) if len(some) else np.full(values.shape[1], np.nan))
    return np.asarray(rows, dtype=np.float64)


def unit(rows: NDArray[np.floating]) -> Matrix:
    """Rows at unit length; those of NaN or nothing stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0), dtype=np.float64)


def rooted(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Square roots that keep the sign: large values, as of ReLU features, count less."""
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))
