"""Opening frozen models.

A model is a name of ``data/models.yaml``, a folder or hub name of a model of transformers, or two of them
with ``+`` between, one for pictures and one for sound. Nothing is fetched by opening a model.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sacma.errors import SacmaError, printable
from sacma.files import read_json
from sacma.frozen.bridge import LabelBridge
from sacma.frozen.catalogue import BRIDGE, best_here, cached, known_models, sound_labels
from sacma.frozen.encoders import Tower
from sacma.frozen.joint import FULL, JointModel
from sacma.frozen.scores import FrozenModel
from sacma.media.backbones import Backbone

ENCODERS = {
    "clip": ("clip", "ClipTower"),
    "metaclip_2": ("metaclip", "MetaClipTower"),
    "siglip": ("siglip", "SiglipTower"),
    "siglip2": ("siglip", "SiglipTower"),
    "xclip": ("xclip", "XClipTower"),
    "clap": ("clap", "ClapTower"),
    "pe_audio_video": ("pe_av", "PeAvTower"),
}
"""Kind of a model, as transformers calls it -> module and class that read it."""


def open_frozen(
    name: str | None = None,
    *,
    audio_weights: str | Path | None = None,
    prompts: str | None = None,
    precision: str = FULL,
    device: str = "cpu",
) -> FrozenModel:
    """A frozen model with its weights loaded.

    Args:
        name: see the head of this file; None for the best one on this machine.
        audio_weights: YAMNet's file for the label bridge; by default see ``sound_labels``.
        prompts: of a joint encoder, see ``sacma.frozen.prompts``; by default the names alone.
        precision: of a joint encoder's networks, see ``sacma.frozen.joint.PRECISIONS``.
        device: where its networks run.

    Raises:
        SacmaError: no such model, its weights are not on this machine, or they cannot be loaded.
    """
    name = name or best_here()
    if name == BRIDGE:
        if prompts is not None:
            raise SacmaError(f"{BRIDGE} takes no prompts; leave them out, or take another model")
        if precision != FULL:
            raise SacmaError(f"{BRIDGE} computes in full precision; leave out {precision}")
        return LabelBridge(audio_weights=audio_weights or sound_labels(), device=device)
    if audio_weights is not None:
        raise SacmaError(f"{name} takes no audio weights; leave them out")
    towers = {}
    for source in _sources(name):
        folder = cached(source)
        if folder is None:
            raise SacmaError(f"{source} is not on this machine; fetch it with: sacma models get {name}")
        tower = open_tower(folder, source, device=device)
        for modality in tower.modalities:
            if modality in towers:
                raise SacmaError(
                    f"{name}: both parts read {modality}; give one for pictures and one for sound"
                )
            towers[modality] = tower
    return JointModel(name, towers, prompts=prompts or "plain", precision=precision, device=device)


def frozen_backbone(name: str, *, audio_weights: str | Path | None = None, device: str = "cpu") -> Backbone:
    """The backbone of a frozen model, for processes that extract.

    Raises:
        SacmaError: see ``open_frozen``.
    """
    return open_frozen(name, audio_weights=audio_weights, device=device).backbone


def open_tower(folder: Path, source: str, *, device: str = "cpu") -> Tower:
    """An encoder of a folder, by the kind of model that its ``config.json`` names.

    Args:
        folder: of the model.
        source: what it is called in messages.
        device: where it runs.

    Raises:
        SacmaError: it is of a kind that is not known here, damaged, or has no weights.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in ENCODERS:
        raise SacmaError(
            f"{source} is a model of kind {printable(kind)}; known are: {', '.join(sorted(ENCODERS))}"
        )
    module, encoder = ENCODERS[kind]
    opened: Tower = getattr(import_module(f"sacma.frozen.encoders.{module}"), encoder)(
        str(folder), source=source, device=device
    )
    return opened


def _sources(name: str) -> list[str]:
    """Folders or hub names of the parts of a model."""
    sources: list[str] = []
    for part in [name] if Path(name).is_dir() else name.split("+"):
        facts = known_models().get(part)
        if facts is None and "/" not in part and not Path(part).is_dir():
            raise SacmaError(
                f"no frozen model {printable(part)}; there are: {', '.join(known_models())}, a "
                "folder, or a hub name"
            )
        if facts is not None and not facts.sources:
            raise SacmaError(f"{part} cannot be one of a pair; use it alone")
        sources += facts.sources.values() if facts else [part]
    return sources
