"""Clips and class names in, ranked names out.

The names are loaded when they are first used: answers alone need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacma.predict.answers import Answer, Candidates, Prediction, Predictions, Window, table_of
    from sacma.predict.explain import Attention, Places
    from sacma.predict.frozen_predictor import ZeroShot, zero_shot
    from sacma.predict.predictor import Predictor, load
    from sacma.predict.timeline import Segment

_HOMES = {
    "Answer": "answers",
    "Attention": "explain",
    "Candidates": "answers",
    "Places": "explain",
    "Prediction": "answers",
    "Predictions": "answers",
    "Predictor": "predictor",
    "Segment": "timeline",
    "Window": "answers",
    "ZeroShot": "frozen_predictor",
    "load": "predictor",
    "table_of": "answers",
    "zero_shot": "frozen_predictor",
}

__all__ = [
    "Answer",
    "Attention",
    "Candidates",
    "Places",
    "Prediction",
    "Predictions",
    "Predictor",
    "Segment",
    "Window",
    "ZeroShot",
    "load",
    "table_of",
    "zero_shot",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sacma.predict' has no attribute {name!r}")
    return getattr(import_module(f"sacma.predict.{_HOMES[name]}"), name)
