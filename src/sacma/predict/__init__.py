"""Clips and class names in, ranked names out."""

from sacma.predict.answers import Answer, Candidates, Prediction, Window, table_of
from sacma.predict.explain import Attention, Places
from sacma.predict.frozen_predictor import ZeroShot, zero_shot
from sacma.predict.predictor import Predictor, load
from sacma.predict.timeline import Segment

__all__ = [
    "Answer",
    "Attention",
    "Candidates",
    "Places",
    "Prediction",
    "Predictor",
    "Segment",
    "Window",
    "ZeroShot",
    "load",
    "table_of",
    "zero_shot",
]
