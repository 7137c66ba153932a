"""The hyperparameters of all methods, apart from their networks: help shows them without torch."""

from sacma.models.configs.averages import (
    APNConfig,
    AVCAConfig,
    AVGZSLNetConfig,
    AVMSTConfig,
    BilinearConfig,
    CJMEConfig,
)
from sacma.models.configs.base import MethodConfig
from sacma.models.configs.fitted import (
    ClosedFormConfig,
    ESZSLConfig,
    ESZSLFirstConfig,
    KITEConfig,
    KITEFirstConfig,
)
from sacma.models.configs.generative import AVFSConfig, FVAEGANConfig
from sacma.models.configs.joint import ClipClapConfig, FrozenConfig, HSPMoEConfig
from sacma.models.configs.sequences import AttentionFusionConfig, PerceiverConfig, SACMAConfig, TCAFConfig

CONFIGS: dict[str, type[MethodConfig]] = {
    "sacma": SACMAConfig,
    "tcaf": TCAFConfig,
    "avca": AVCAConfig,
    "avgzslnet": AVGZSLNetConfig,
    "cjme": CJMEConfig,
    "devise": BilinearConfig,
    "ale": BilinearConfig,
    "sje": BilinearConfig,
    "apn": APNConfig,
    "f-vaegan-d2": FVAEGANConfig,
    "avfs": AVFSConfig,
    "avmst": AVMSTConfig,
    "attention-fusion": AttentionFusionConfig,
    "perceiver": PerceiverConfig,
    "eszsl": ESZSLConfig,
    "eszsl-0.1": ESZSLFirstConfig,
    "cosine-ridge": ClosedFormConfig,
    "kite": KITEConfig,
    "kite-0.1": KITEFirstConfig,
    "clipclap": ClipClapConfig,
    "hsp-moe": HSPMoEConfig,
    "frozen": FrozenConfig,
}
"""Those of the methods in ``METHODS``; of another one, ``Method.Config`` says them, at the price of torch."""
