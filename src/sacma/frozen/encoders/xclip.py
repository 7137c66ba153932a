"""X-CLIP: pictures over time.

Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition", ECCV 2022. Eight
frames, one a second, make one embedding; what is shorter has its last frame repeated. The text vector of a
name depends on the clip: a prompt made of its pictures is added to it. So a step keeps, beside the
embedding, the features that the prompt is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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


class Films:
    """Frames to steps: the embedding (D) and what prompts are made of (P x D), joined."""

    version = "1"
    licence = "that of the model, see its card"
    rate = 1.0
    size = None  # the processor scales

    def __init__(self, net: Any, processor: Any, *, name: str, device: str) -> None:
        self._net, self._processor, self._device, self.name = net, processor, device, name
        vision = net.config.vision_config
        self.frames = int(vision.num_frames)
        self.step_seconds = float(self.frames)
        self.looks = self.step_seconds - 1  # from the first frame to the last
        self.width = int(net.config.projection_dim) * (1 + (vision.image_size // vision.patch_size) ** 2)
        self.checksum = weights_checksum(net)

    @torch.inference_mode()
    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames of one a second."""
        made = []
        for film in batches((frame for _, frame in frames), self.frames):
            made += in_batches(lambda films: self._embedded(films[0]), [film], 1)
        return regular_steps(made, self.step_seconds)

    def _embedded(self, frames: Sequence[Any]) -> Vectors:
        """(1, width)."""
        filled = list(frames) + [frames[-1]] * (self.frames - len(frames))
        pixels = self._processor(images=filled, return_tensors="pt")["pixel_values"].to(self._device)
        net = self._net
        pictures = net.vision_model(pixel_values=pixels.reshape(-1, *pixels.shape[-3:]))
        each = net.visual_projection(pictures.pooler_output)  # (F, D)
        film = pooled(net.mit(each[None]))[0]  # (D,)
        patches = net.prompts_visual_layernorm(pictures.last_hidden_state[:, 1:])  # (F, P, W)
        of_prompt = (patches @ net.prompts_visual_projection).mean(dim=0)  # (P, D)
        joined = torch.cat([film, of_prompt.flatten()])
        return np.asarray(joined.float().cpu().numpy()[None], dtype=np.float32)


class XClipTower(OneModality):
    """An X-CLIP model; softmax over names, temperature learned.

    Args:
        folder: of the model.
        source: what it is called in messages; by default the folder.
        device: where it runs.

    Raises:
        SacmaError: transformers is missing, or the folder is no such model.
    """

    modalities = ("video",)

    def __init__(self, folder: str, *, source: str | None = None, device: str = "cpu") -> None:
        source = source or folder
        net, self._tokenizer = load(folder, source, "XCLIPModel")
        self._net, self._device = net.to(device), device
        self._longest = int(net.config.text_config.max_position_embeddings)
        self.video = Films(net, load_image_processor(folder, source), name=source, device=device)
        self.scales: Mapping[str, tuple[float, float]] = {"video": (net.logit_scale.exp().item(), 0.0)}

    def _finished(self, vectors: Any) -> Vectors:
        """Text vectors before the prompt, not of unit length."""
        return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def cosines(self, modality: str, steps: Vectors, names: Vectors) -> NDArray[np.float64]:
        """(T, K) cosines of steps with the names' vectors and the prompts made for each step."""
        width, rows = names.shape[1], []
        text = torch.from_numpy(names).to(self._device)[None]  # (1, K, D)
        for step in torch.from_numpy(steps).to(self._device):
            film, of_prompt = step[:width], step[width:].view(1, -1, width)
            vectors = text + self._net.prompts_generator(text, of_prompt)  # (1, K, D)
            rows.append(unit(vectors[0]) @ unit(film))
        return np.asarray(rows, dtype=np.float64)
