"""CLIP for pictures and CLAP for sound, from the Hugging Face hub or a local folder.

CLIP (Radford et al., 2021): one frame a second, its shorter side scaled to the size of the network, the
middle square; the projected image embedding. CLAP (Wu et al., 2023): ten seconds of sound after ten seconds,
as it was trained, what is shorter repeated to ten; the projected audio embedding. Both encode text too: the
class vectors that belong to these features come from the text encoder ``clip`` of the same model. Embeddings
are not scaled to unit length.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from sacma.errors import requires
from sacma.media.arrays import TimedFrame, Waveform
from sacma.media.backbones.base import Steps
from sacma.media.backbones.streams import batches, in_batches, middle, parts, regular_steps
from sacma.pretrained import loading, pretrained, weights_checksum


class ClipImages:
    """Pictures to the embedding of a CLIP model, one a second."""

    name = "clip"
    version = "1"
    licence = "that of the model, see its card"
    step_seconds = 1.0
    looks = 0.0
    rate = 1.0

    def __init__(self, model: str, *, device: str = "cpu") -> None:
        """Load a model.

        Args:
            model: folder, or name on the hub such as ``openai/clip-vit-base-patch32``.
            device: where it runs.

        Raises:
            SacmaError: a package is missing, or there is no such model.
        """
        with requires("text"):
            from transformers import CLIPVisionModelWithProjection
            from transformers.image_processing_base import ImageProcessingMixin
        with loading(model, "a CLIP model"):
            self._net = pretrained(CLIPVisionModelWithProjection, model)
            facts, _ = ImageProcessingMixin.get_image_processor_dict(model)
            self._mean, self._std = (
                torch.tensor(facts[key]).view(1, 3, 1, 1).to(device) for key in ("image_mean", "image_std")
            )
        self.model = model
        self.width = int(self._net.config.projection_dim)
        self.size = int(self._net.config.image_size)
        self.checksum = weights_checksum(self._net)
        self._net, self._device = self._net.to(device), device

    @torch.inference_mode()
    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames of one a second."""
        made = []
        for batch in batches(frames, 8):
            pixels = torch.from_numpy(np.stack([middle(frame) for _, frame in batch])).to(self._device)
            x = pixels.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
            if x.shape[-1] != self.size:
                x = interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
            made += in_batches(self._embedded, (x - self._mean) / self._std, 8)
        return regular_steps(made, self.step_seconds)

    def _embedded(self, pixels: Any) -> NDArray[np.float32]:
        embeds = self._net(pixel_values=pixels).image_embeds
        return np.asarray(embeds.float().cpu().numpy(), dtype=np.float32)


class ClapSound:
    """Sound to the embedding of a CLAP model, one for each ten seconds, as it was trained."""

    name = "clap"
    version = "2"
    licence = "that of the model, see its card"
    step_seconds = 10.0

    def __init__(self, model: str, *, device: str = "cpu") -> None:
        """Load a model.

        Args:
            model: folder, or name on the hub such as ``laion/clap-htsat-unfused``.
            device: where it runs.

        Raises:
            SacmaError: a package is missing, or there is no such model.
        """
        with requires("text"):
            from transformers import ClapAudioModelWithProjection, ClapFeatureExtractor
        with loading(model, "a CLAP model"):
            self._net = pretrained(ClapAudioModelWithProjection, model)
            self._front = ClapFeatureExtractor.from_pretrained(model)
        self.model = model
        self.width = int(self._net.config.projection_dim)
        self.rate = int(self._front.sampling_rate)
        self.checksum = weights_checksum(self._net)
        self._net, self._device = self._net.to(device), device

    @torch.inference_mode()
    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode sound of ``rate`` samples a second."""
        made = []
        for batch in batches(parts(blocks, round(self.step_seconds * self.rate), self.rate), 8):
            front = self._front(batch, sampling_rate=self.rate, return_tensors="pt")
            spectra = front["input_features"].float().to(self._device)
            made += in_batches(self._embedded, spectra, 8)
        return regular_steps(made, self.step_seconds)

    def _embedded(self, spectra: Any) -> NDArray[np.float32]:
        # Not what the front end says: where none is longer than ten seconds, it says so of one at random.
        longer = torch.zeros(len(spectra), 1, dtype=torch.bool, device=self._device)
        embeds = self._net(input_features=spectra, is_longer=longer).audio_embeds
        return np.asarray(embeds.float().cpu().numpy(), dtype=np.float32)
