"""Feature extractors for one modality: what goes in, what comes out, and what is known about their weights.

Times are seconds from the start of what is handed in; a caller that cuts a long clip into pieces adds the
start of the piece. A step stands at its first moment: step k of an extractor with ``step_seconds`` s stands
at k s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""(F, H, W, 3) red, green, blue, 0 to 255."""


@dataclass(frozen=True)
class Steps:
    """What an extractor makes of one clip.

    Attributes:
        values: (T, D) float32, finite, T at least 1.
        seconds: (T,) float64, the start of each step.
    """

    values: NDArray[np.float32]
    seconds: NDArray[np.float64]


class Extractor(Protocol):
    """What every extractor says about itself; it goes into the provenance of the features.

    Attributes:
        name: what users call it.
        version: changes whenever the same clip would give other features.
        licence: of the weights, or of the code where there are none.
        checksum: SHA-256 of the weights, ``none`` where there are none.
        width: D.
        step_seconds: from one step to the next.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def checksum(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def step_seconds(self) -> float: ...


class AudioExtractor(Extractor, Protocol):
    """Sound to features."""

    def __call__(self, waveform: NDArray[np.float32], rate: int) -> Steps:
        """Describe a waveform (S,), -1 to 1, of ``rate`` samples per second."""
        ...


class VideoExtractor(Extractor, Protocol):
    """Pictures to features."""

    def __call__(self, frames: Frames, seconds: NDArray[np.float64]) -> Steps:
        """Describe frames (F, H, W, 3) shown at ``seconds`` (F,), ascending from about 0."""
        ...
