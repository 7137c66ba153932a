"""Parity vectors: a file of arrays, with the parameters and the weights of the published code beside it."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sacma.types import Batch, ClassSet, Sequences


class Vectors:
    """One file of vectors.

    Args:
        path: of the arrays or of the parameters; they differ in the suffix.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.described: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        self.params: dict[str, Any] = self.described["params"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.path.with_suffix(".npz")))

    @cached_property
    def state(self) -> dict[str, Tensor]:
        stored = np.load(self.path.with_name(f"{self.path.stem}_state.npz"))
        return {key: torch.from_numpy(value) for key, value in stored.items()}

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def names(self, prefix: str) -> list[str]:
        return [key.removeprefix(prefix) for key in self.arrays if key.startswith(prefix)]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose names start with ``prefix``, without it."""
        return {name: self[prefix + name] for name in self.names(prefix)}


class SequenceVectors(Vectors):
    """Vectors of a method that reads sequences by a transformer."""

    @property
    def settings(self) -> dict[str, Any]:
        """Hyperparameters that SACMA and TCAF share, without dropout."""
        p = self.params
        dropouts = ("encoder", "decoder", "text", "transformer", "position")
        return {
            "audio_width": self["audio"].shape[2],
            "video_width": self["video"].shape[2],
            "text_width": self["class_w"].shape[1],
            "width": p["transformer_dim"],
            "common_width": p["dim_out"],
            "encoder_hidden": p["encoder_hidden_size"],
            "decoder_hidden": p["decoder_hidden_size"],
            "depth": p["transformer_depth"],
            "heads": p["transformer_heads"],
            "head_width": p["transformer_dim_head"],
            "feed_forward_hidden": p["transformer_mlp_dim"],
            "extra_train_forward": False,
            **{f"{name}_dropout": 0.0 for name in dropouts},
        }

    @property
    def batch(self) -> Batch:
        audio, video = (
            Sequences.from_padded(self[name], self[f"mask_{name}"].sum(1).long(), self[f"time_{name}"])
            for name in ("audio", "video")
        )
        return Batch(audio, video, self["labels"], self["w"])

    @property
    def classes(self) -> ClassSet:
        vectors = self["class_w"]
        names = tuple(f"class {k}" for k in range(len(vectors)))
        return ClassSet(names, vectors, torch.ones(len(vectors), dtype=torch.bool))
