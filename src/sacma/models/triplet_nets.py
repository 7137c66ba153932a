"""Base of AVGZSLNet and CJME: networks of audio, video and class vectors; one modality or both score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from sacma.models.base import Method
from sacma.models.layers import TwoLayerNet
from sacma.options import to_options
from sacma.types import ClassSet


class TripletMethod(Method):
    """Networks of audio, video and class vectors; ``output`` chooses what scores.

    Its released code searches for a bias three times, by the distances of audio, of video and of both, and
    tests with the mean of the three, although ``both`` alone scores. The subclass's option ``mean_bias`` does
    the same.
    """

    OUTPUTS: ClassVar[Sequence[str]] = ("both", "audio", "video")
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        "triplet_net.embedding_net1.fc.": "audio_net.",
        "triplet_net.embedding_net2.fc.": "video_net.",
        "triplet_net.embedding_net3.fc.": "text_net.",
    }
    needs_negatives: ClassVar[bool] = True
    temporal: ClassVar[bool] = False
    audio_net: TwoLayerNet
    video_net: TwoLayerNet
    text_net: TwoLayerNet

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        self.mean_bias = bool(to_options(self.config)["mean_bias"])

    def bias_outputs(self, output: str | None = None) -> Sequence[str]:
        """All three with ``mean_bias``, whichever scores."""
        return self.OUTPUTS if self.mean_bias else super().bias_outputs(output)

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, d): t of each class."""
        return self.text_net(classes.vectors)
