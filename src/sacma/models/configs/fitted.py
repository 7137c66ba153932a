"""Hyperparameters of methods that are solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sacma.errors import SacmaError
from sacma.models.configs.base import MethodConfig

TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class ClosedFormConfig(MethodConfig):
    """Hyperparameters of the closed forms.

    Attributes:
        gamma: ridge on the side of the features, a share of the trace; None is chosen on validation.
    """

    gamma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma", "lambda_"):
            value = getattr(self, name, None)
            if value is not None and not 0 < value < float("inf"):
                raise SacmaError(f"{name} is {value}; it must be a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class ESZSLConfig(ClosedFormConfig):
    """Hyperparameters of ESZSL.

    Attributes:
        lambda_: ridge on the side of the class vectors, a share of the trace; None is chosen on
            validation.
    """

    lambda_: float | None = None


@dataclass(frozen=True, kw_only=True)
class ESZSLFirstConfig(MethodConfig):
    """Hyperparameters of the first ESZSL.

    Attributes:
        gamma: ridge on the side of the features, above 0; None tries another one in each epoch.
        lambda_: ridge on the side of the class vectors, likewise.
        norm_inputs: give the joint feature vector unit length.
    """

    gamma: float | None = None
    lambda_: float | None = None
    norm_inputs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma", "lambda_"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SacmaError(f"{name} is {getattr(self, name)}; it must be a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class KITEConfig(MethodConfig):
    """Hyperparameters of KITE.

    Attributes:
        views: which views of the clips score.
        scores: all five scores, or one of them.
        gates: whether classes with training clips gain by how near a clip is to them, beside the offset.
        smoothing: sigma, how far a class is spread over the training classes that it is like.
        synchrony: beta, weight of the covariance of sound and picture over time; 0 leaves it out.
        streams: the modalities in use; the covariance needs both.
        episodes: number of episodes.
        shrinkage: how strongly the weights are drawn to their first ones.
        rank: the most dimensions that a view is reduced to, the principal ones; 512 at most for many
            clips.
    """

    views: Literal["both", "root", "unit"] = "both"
    scores: Literal["all", "mixture", "bilinear", "words", "prototypes", "neighbours"] = "all"
    gates: bool = True
    smoothing: float = 30.0
    synchrony: float = 0.2
    streams: Literal["av", "a", "v"] = "av"
    episodes: int = 16
    shrinkage: float = 0.01
    rank: int = 1280

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("smoothing", TINY), ("synchrony", 0.0), ("shrinkage", 0.0)):
            value = getattr(self, name)
            if not least <= value < float("inf"):
                raise SacmaError(f"{name} is {value}; it must be a finite number, {least:g} or more")


@dataclass(frozen=True, kw_only=True)
class KITEFirstConfig(MethodConfig):
    """Hyperparameters of the first KITE.

    Attributes:
        ridge: rho, the ridge as a share of the clips' sum of squares; None lets the episodes choose.
        smoothing: sigma, how far a class is spread over the training classes that it is like; shared out
            among them, as many classes need less.
        gate: eta, weight of the nearness to a seen class; None lets the episodes choose.
        synchrony: beta, weight of the covariance of sound and picture over time; 0 leaves it out.
        power: root takes square roots of features, linear leaves them; both are then of unit length.
        streams: the modalities in use; the covariance needs both.
        episodes: how many.
        rank: the most dimensions that the features are reduced to, the principal ones.
    """

    ridge: float | None = None
    smoothing: float = 30.0
    gate: float | None = None
    synchrony: float = 0.2
    power: Literal["root", "linear"] = "root"
    streams: Literal["av", "a", "v"] = "av"
    episodes: int = 12
    rank: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("ridge", TINY), ("smoothing", TINY), ("gate", 0.0), ("synchrony", 0.0)):
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                raise SacmaError(f"{name} is {value}; it must be a finite number, {least:g} or more")
