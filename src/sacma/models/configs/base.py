"""Hyperparameters that every method has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sacma.options import check_choices

FeatureScaling = Literal["published", "standardise", "unit"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Hyperparameters that every method has; each method adds its own in a subclass named ``Config``.

    Attributes:
        audio_width: width of an audio feature vector, from the data.
        video_width: width of a visual feature vector, from the data.
        text_width: width of a class vector, from the data.
        feature_scaling: ``published`` scales the inputs as the released code does; ``standardise`` subtracts
            the mean and divides by the standard deviation of each channel over the training clips; ``unit``
            gives each vector unit length.
    """

    audio_width: int
    video_width: int
    text_width: int
    feature_scaling: FeatureScaling = "published"

    def __post_init__(self) -> None:
        check_choices(self)
