"""CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021)."""

from __future__ import annotations

from sacma.frozen.encoders.pictures import PictureTower


class ClipTower(PictureTower):
    """A CLIP model; softmax over names, temperature learned."""

    network = "CLIPModel"
