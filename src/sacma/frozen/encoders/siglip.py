"""SigLIP and SigLIP 2 (Zhai et al., ICCV 2023; Tschannen et al., 2025): a sigmoid for each pair.

Texts are padded to the full length, as in training. Models of kind ``siglip2`` take pictures of any shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from sacma.files import read_json
from sacma.frozen.encoders.pictures import PictureTower


class SiglipTower(PictureTower):
    """A SigLIP model: logit = scale * cosine + bias, for each name by itself."""

    sigmoid = True
    padding: ClassVar[dict[str, Any]] = {"padding": "max_length", "return_attention_mask": False}

    def __init__(self, folder: str, *, source: str | None = None, device: str = "cpu") -> None:
        two = read_json(Path(folder) / "config.json").get("model_type") == "siglip2"
        self.network = "Siglip2Model" if two else "SiglipModel"
        super().__init__(folder, source=source, device=device)
