"""All methods by name: SACMA, the eleven that the paper compares it with, TCAF's fusion baselines, ESZSL,
KITE, which is ours, ClipClap and HSP-MoE, made for the embeddings of frozen joint encoders, and the
score of such encoders without training.
"""

from sacma.models.apn import APN
from sacma.models.attention_fusion import AttentionFusion
from sacma.models.avca import AVCA
from sacma.models.avfs import AVFS
from sacma.models.avgzslnet import AVGZSLNet
from sacma.models.avmst import AVMST
from sacma.models.base import Method
from sacma.models.bilinear import ALE, SJE, DeViSE
from sacma.models.cjme import CJME
from sacma.models.clipclap import ClipClap
from sacma.models.eszsl import ESZSL
from sacma.models.frozen import Frozen
from sacma.models.fvaegan import FVAEGAN
from sacma.models.hsp_moe import HSPMoE
from sacma.models.kite import KITE
from sacma.models.perceiver import Perceiver
from sacma.models.sacma import SACMA
from sacma.models.tcaf import TCAF

METHODS: dict[str, type[Method]] = {
    "sacma": SACMA,
    "tcaf": TCAF,
    "avca": AVCA,
    "avgzslnet": AVGZSLNet,
    "cjme": CJME,
    "devise": DeViSE,
    "ale": ALE,
    "sje": SJE,
    "apn": APN,
    "f-vaegan-d2": FVAEGAN,
    "avfs": AVFS,
    "avmst": AVMST,
    "attention-fusion": AttentionFusion,
    "perceiver": Perceiver,
    "eszsl": ESZSL,
    "kite": KITE,
    "clipclap": ClipClap,
    "hsp-moe": HSPMoE,
    "frozen": Frozen,
}
