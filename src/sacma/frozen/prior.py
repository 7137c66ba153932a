"""Frozen score of features, with which a trained method is fused: ``--prior frozen``.

Features that share a space with the class vectors are scored by cosines (``sacma.models.frozen``); those of
EfficientNet-Lite0, alone or with YAMNet, by the label bridge (``sacma.frozen.bridge``) from the class names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sacma.errors import SacmaError, printable
from sacma.frozen.bridge import TEMPERATURE, WEIGHTS, LabelBridge
from sacma.frozen.catalogue import sound_labels
from sacma.frozen.descriptions import ClassName
from sacma.frozen.scores import Names, joined
from sacma.models.base import Method
from sacma.models.configs.joint import text_parts
from sacma.models.frozen import Frozen
from sacma.types import Batch, ClassSet, Sequences

VECTORS, BRIDGE, WITH_SOUND = "vectors", "label-bridge", "label-bridge-with-sound"
_PICTURES, _SOUND = "efficientnet-lite0", "yamnet"


@lru_cache(maxsize=2)
def _bridge(audio_weights: Path | None) -> LabelBridge:
    """The label bridge, whose networks are loaded once."""
    return LabelBridge(audio_weights=audio_weights)


class BridgePrior(Method):
    """The label bridge on features that are extracted already.

    Args:
        config: the configuration of the method that it is fused with, for the widths.
        sound: whether the audio features are YAMNet's.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("score",)
    compares_embeddings = False
    takes_averages = True

    def __init__(self, config: Any, *, sound: bool) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.bridge = _bridge(sound_labels() if sound else None)
        self.register_buffer("nothing", torch.zeros(0))  # says on which device the answers are wanted
        self._named: tuple[tuple[str, ...], Names] | None = None

    def distances(self, batch: Batch, classes: ClassSet, *, output: str | None = None) -> Tensor:
        """(B, K): the negative logits of the names; 0 for clips without anything that the bridge reads."""
        self._check_width("audio", batch.audio, self.config.audio_width)
        self._check_width("video", batch.video, self.config.video_width)
        names = self._names(classes.names)
        alone = {name: self._alone(name, getattr(batch, name), names) for name in self.bridge.modalities}
        with np.errstate(invalid="ignore"):  # clips that lack all modalities
            scores = np.nan_to_num(joined(alone, WEIGHTS))
        return torch.from_numpy(-scores).to(batch.video.values)

    def _names(self, given: tuple[str, ...]) -> Names:
        """The encoded names; those of the last call are kept."""
        if self._named is None or self._named[0] != given:
            self._named = given, self.bridge.names([ClassName(name) for name in given])
        return self._named[1]

    def _alone(self, modality: str, steps: Sequences, names: Names) -> Any:
        probability = self.bridge.label_probabilities(modality, steps.values.float().cpu().numpy())  # (N, L)
        sums = steps.with_values(torch.from_numpy(np.ascontiguousarray(probability)).to(steps.lengths.device))
        means = sums.mean().cpu().numpy().astype(np.float64)
        means[(steps.lengths == 0).cpu().numpy()] = np.nan
        return self.bridge.scores_of(modality, means, names) / TEMPERATURE


def prior_kind(provenance: Mapping[str, Any], *, audio_width: int, video_width: int, text_width: int) -> str:
    """The kind of frozen score that features have: ``vectors``, or a label bridge with sound or without.

    Args:
        provenance: of the features.
        audio_width: of the audio features.
        video_width: of the visual features.
        text_width: of the class vectors.

    Raises:
        SacmaError: they have none.
    """
    if text_parts(audio_width=audio_width, video_width=video_width, text_width=text_width):
        return VECTORS
    if _encoder(provenance, "video") == _PICTURES:
        heard = _encoder(provenance, "audio") == _SOUND and sound_labels() is not None
        return WITH_SOUND if heard else BRIDGE
    raise SacmaError(
        "the frozen score needs features and class vectors of one space, or features of lite, but class "
        f"vectors {text_width} wide do not fit video features {video_width} wide and audio features "
        f"{audio_width} wide; take features and class vectors of a joint encoder"
    )


def open_prior(method: Method, kind: str) -> Method:
    """The frozen score of a kind for a method's features.

    Raises:
        SacmaError: the kind is unknown, or a package or file of the bridge is missing.
    """
    if kind == VECTORS:
        return _vectors(method).to(method.device)
    if kind in (BRIDGE, WITH_SOUND):
        if kind == WITH_SOUND and sound_labels() is None:
            raise SacmaError("the prior of this run needs YAMNet's file; name it by SACMA_YAMNET")
        return BridgePrior(method.config, sound=kind == WITH_SOUND).to(method.device)
    raise SacmaError(f"the prior {printable(kind)} is unknown; train again with --force")


def _vectors(method: Method) -> Frozen:
    c = method.config
    return Frozen(audio_width=c.audio_width, video_width=c.video_width, text_width=c.text_width)


def _encoder(provenance: Mapping[str, Any], modality: str) -> str:
    facts = provenance.get(modality)
    return str(facts.get("name", "")) if isinstance(facts, Mapping) else ""
