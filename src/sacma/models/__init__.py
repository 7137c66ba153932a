"""All methods by name: SACMA, the eleven that the paper compares it with, TCAF's fusion baselines, ESZSL,
KITE, which is ours, ClipClap and HSP-MoE, made for the embeddings of frozen joint encoders, and the
score of such encoders without training.
"""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sacma.models.base import Method


class _Methods(UserDict[str, Any]):
    """Name -> class of a method, or where it is: it is imported when it is first asked for."""

    def __getitem__(self, name: str) -> type[Method]:
        found = self.data[name]
        if isinstance(found, str):
            module, _, own = found.partition(":")
            found = self.data[name] = getattr(import_module(f"{__name__}.{module}"), own)
        method: type[Method] = found
        return method


METHODS = _Methods(
    {
        "sacma": "sacma:SACMA",
        "tcaf": "tcaf:TCAF",
        "avca": "avca:AVCA",
        "avgzslnet": "avgzslnet:AVGZSLNet",
        "cjme": "cjme:CJME",
        "devise": "bilinear:DeViSE",
        "ale": "bilinear:ALE",
        "sje": "bilinear:SJE",
        "apn": "apn:APN",
        "f-vaegan-d2": "fvaegan:FVAEGAN",
        "avfs": "avfs:AVFS",
        "avmst": "avmst:AVMST",
        "attention-fusion": "attention_fusion:AttentionFusion",
        "perceiver": "perceiver:Perceiver",
        "eszsl": "eszsl:ESZSL",
        "eszsl-0.1": "eszsl_first:ESZSLFirst",
        "cosine-ridge": "cosine_ridge:CosineRidge",
        "kite": "kite:KITE",
        "kite-0.1": "kite_first:KITEFirst",
        "clipclap": "clipclap:ClipClap",
        "hsp-moe": "hsp_moe:HSPMoE",
        "frozen": "frozen:Frozen",
    }
)
