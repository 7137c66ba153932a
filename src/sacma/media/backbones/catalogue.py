"""Backbones by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sacma import plugins
from sacma.errors import SacmaError, printable
from sacma.media.backbones.base import Backbone

BACKBONES = ("descriptors", "lite", "lite-yamnet", "clip-clap", "c3d-vggish", "selavi")

_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "lite-yamnet": ("audio",),
    "clip-clap": ("audio", "video"),
    "c3d-vggish": ("audio", "video"),
    "selavi": ("audio", "video"),
}
"""Backbone -> modalities whose weights the user has to bring."""


def open_backbone(
    name: str,
    *,
    audio_weights: str | Path | None = None,
    video_weights: str | Path | None = None,
    device: str = "cpu",
) -> Backbone:
    """A backbone with its weights loaded.

    Args:
        name: one of ``BACKBONES``, or an entry point ``sacma.backbones`` of an installed package: a function
            of ``audio_weights``, ``video_weights`` and ``device`` that returns a ``Backbone``.
        audio_weights: file, folder or name on the Hugging Face hub, where the backbone brings none.
        video_weights: the same for pictures.
        device: where the networks run.

    Raises:
        SacmaError: no such backbone, weights missing, damaged, superfluous or of something else, a package
            missing, or no such device.
    """
    if name not in BACKBONES:
        return _from_outside(name, audio_weights, video_weights, device)
    needed = _WEIGHTS.get(name, ())
    given = {"audio": audio_weights, "video": video_weights}
    for kind, weights in given.items():
        if weights is None and kind in needed:
            raise SacmaError(
                f"backbone {printable(name)} needs {kind} weights; give them as --{kind}-weights"
            )
        if weights is not None and kind not in needed:
            raise SacmaError(f"backbone {printable(name)} takes no {kind} weights; leave them out")
    _check_device(device)
    if name == "descriptors":
        from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors

        return Backbone(name, AudioDescriptors(), VideoDescriptors())
    if name == "clip-clap":
        from sacma.media.backbones.clip_clap import ClapSound, ClipImages

        return Backbone(
            name, ClapSound(str(audio_weights), device=device), ClipImages(str(video_weights), device=device)
        )
    if name in ("c3d-vggish", "selavi"):
        from sacma.media.backbones import benchmark

        sound = benchmark.VGGishSound if name == "c3d-vggish" else benchmark.SelaviSound
        pictures = benchmark.C3DPictures if name == "c3d-vggish" else benchmark.SelaviPictures
        return Backbone(
            name, sound(str(audio_weights), device=device), pictures(str(video_weights), device=device)
        )
    from sacma.media.backbones.lite import EfficientNetLite0, SpeechEmbedding

    if name == "lite":
        return Backbone(name, SpeechEmbedding(), EfficientNetLite0(device=device))
    from sacma.media.backbones.yamnet import YAMNet

    return Backbone(name, YAMNet(str(audio_weights)), EfficientNetLite0(size=64, device=device))


def _from_outside(
    name: str, audio_weights: str | Path | None, video_weights: str | Path | None, device: str
) -> Backbone:
    """A backbone of an installed package."""
    known = plugins.offered(plugins.BACKBONES)
    if name not in known:
        raise SacmaError(
            f"backbone {printable(name)} is unknown; expected one of {', '.join((*BACKBONES, *known))}; "
            "others come with packages that have an entry point sacma.backbones"
        )
    make, origin = plugins.load(plugins.BACKBONES, name)
    _check_device(device)
    made = plugins.called(
        lambda: make(audio_weights=audio_weights, video_weights=video_weights, device=device),
        f"backbone {printable(name)} of {origin}",
        Backbone,
    )
    return replace(made, name=name, package=f"{origin.package} {origin.version}")


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise SacmaError(
            f"device {printable(device)} cannot be used here ({reason}); choose another"
        ) from error
