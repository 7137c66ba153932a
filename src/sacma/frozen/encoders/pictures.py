"""Two-tower models of pictures and text: one frame a second, each an embedding of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from sacma.frozen.encoders import (
    OneModality,
    Vectors,
    load,
    load_image_processor,
    pooled,
    unit,
)
from sacma.media.arrays import TimedFrame
from sacma.media.backbones import Steps, batches, in_batches, regular_steps
from sacma.pretrained import weights_checksum

_FRAMES, _TEXTS = 16, 256


class Frames:
    """The picture side: frames to unit embeddings, one a second.

    Args:
        net: with ``get_image_features``.
        processor: prepares pictures for it.
        name: of the model.
        device: where it runs.
    """

    version = "1"
    licence = "that of the model, see its card"
    step_seconds = 1.0
    looks = 0.0
    rate = 1.0
    size = None  # the processor scales

    def __init__(self, net: Any, processor: Any, *, name: str, device: str) -> None:
        self._net, self._processor, self._device, self.name = net, processor, device, name
        self.checksum = weights_checksum(net)
        self.width = int(getattr(net.config, "projection_dim", 0) or net.config.vision_config.hidden_size)

    @torch.inference_mode()
    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames of one a second."""
        made = []
        for batch in batches((frame for _, frame in frames), _FRAMES):
            made += in_batches(self._embedded, batch, _FRAMES)
        return regular_steps(made, self.step_seconds)

    def _embedded(self, frames: Sequence[Any]) -> Vectors:
        prepared = self._processor(images=list(frames), return_tensors="pt").to(self._device)
        return unit(pooled(self._net.get_image_features(**prepared)))


class PictureTower(OneModality):
    """A two-tower model of transformers with ``get_image_features`` and ``get_text_features``.

    Args:
        folder: of the model.
        source: what it is called in messages; by default the folder.
        device: where it runs.

    Raises:
        SacmaError: transformers is missing, or the folder is no such model.
    """

    network = ""
    modalities = ("video",)

    def __init__(self, folder: str, *, source: str | None = None, device: str = "cpu") -> None:
        source = source or folder
        net, self._tokenizer = load(folder, source, self.network)
        processor = load_image_processor(folder, source)
        self._net, self._device = net.to(device), device
        self._longest = int(net.config.text_config.max_position_embeddings)
        self.video = Frames(self._net, processor, name=source, device=device)
        bias = net.logit_bias.item() if hasattr(net, "logit_bias") else 0.0
        self.scales: Mapping[str, tuple[float, float]] = {"video": (net.logit_scale.exp().item(), bias)}
