"""MetaCLIP 2 (Chuang et al., "Meta CLIP 2: A Worldwide Scaling Recipe", 2025): names in many languages."""

from __future__ import annotations

from sacma.frozen.encoders.pictures import PictureTower


class MetaClipTower(PictureTower):
    """A MetaCLIP 2 model; softmax over names, temperature learned."""

    network = "MetaClip2Model"
