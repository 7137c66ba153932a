"""CLAP for sound, with its own text encoder.

Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation", ICASSP 2023. Sound goes in windows of the ten seconds that it was trained on, one after
another; what is shorter is repeated and padded by the model's own front end. What is left over at the end
of a longer clip counts if it is at least two seconds (``parts``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from sacma.frozen.encoders import OneModality, Vectors, load, pooled, unit
from sacma.media.arrays import Waveform
from sacma.media.backbones import Steps, batches, in_batches, parts, regular_steps
from sacma.pretrained import loading, weights_checksum

_WINDOWS = 4


class Sound:
    """Sound to unit embeddings, one for each ten seconds."""

    version = "1"
    licence = "that of the model, see its card"
    step_seconds = 10.0

    def __init__(self, net: Any, front: Any, *, name: str, device: str) -> None:
        self._net, self._front, self._device, self.name = net, front, device, name
        self.rate = int(front.sampling_rate)
        self.width = int(net.config.projection_dim)
        self.checksum = weights_checksum(net)

    @torch.inference_mode()
    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode sound of ``rate`` samples a second."""
        made = []
        for batch in batches(parts(blocks, round(self.step_seconds * self.rate), self.rate), _WINDOWS):
            made += in_batches(self._embedded, batch, _WINDOWS)
        return regular_steps(made, self.step_seconds)

    def _embedded(self, windows: Sequence[Waveform]) -> Vectors:
        front = self._front(list(windows), sampling_rate=self.rate, return_tensors="pt")
        # Not what the front end says: where none is longer than ten seconds, it says so of one at random.
        longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=self._device)
        spectra = front["input_features"].float().to(self._device)
        return unit(pooled(self._net.get_audio_features(input_features=spectra, is_longer=longer)))


class ClapTower(OneModality):
    """A CLAP model; softmax over names, temperature learned.

    Args:
        folder: of the model.
        source: what it is called in messages; by default the folder.
        device: where it runs.

    Raises:
        SacmaError: transformers is missing, or the folder is no such model.
    """

    modalities = ("audio",)

    def __init__(self, folder: str, *, source: str | None = None, device: str = "cpu") -> None:
        source = source or folder
        net, self._tokenizer = load(folder, source, "ClapModel")
        from transformers import ClapFeatureExtractor

        with loading(source, "a model of sound"):
            front = ClapFeatureExtractor.from_pretrained(folder)
        self._net, self._device = net.to(device), device
        # Positions of RoBERTa begin after the padding token's.
        text = net.config.text_config
        self._longest = int(text.max_position_embeddings) - int(text.pad_token_id) - 1
        self.audio = Sound(self._net, front, name=source, device=device)
        self.scales: Mapping[str, tuple[float, float]] = {"audio": (net.logit_scale_a.exp().item(), 0.0)}
