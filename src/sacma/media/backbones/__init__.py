"""Backbones: an audio and a video encoder, each from a stream to one vector a step.

An encoder takes a stream that ``decode`` makes, at the rate that it asks for, and works through it in bounded
memory. Times are seconds from the start of the stream. A step stands at its first moment: step k of an
encoder with ``step_seconds`` s stands at k s. What is shorter than a step gives one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError

BACKBONES = ("descriptors", "lite", "lite-yamnet", "clip-clap", "c3d-vggish", "selavi")

Frames = NDArray[np.uint8]
"""(F, H, W, 3) red, green, blue, 0 to 255."""
Waveform = NDArray[np.float32]
"""(S,) samples, -1 to 1."""
TimedFrame = tuple[float, NDArray[np.uint8]]
"""Seconds, and the frame (H, W, 3) shown then."""

_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "lite-yamnet": ("audio",),
    "clip-clap": ("audio", "video"),
    "c3d-vggish": ("audio", "video"),
    "selavi": ("audio", "video"),
}
"""What the user has to bring, by backbone."""
_FACTS = ("name", "version", "licence", "checksum", "model")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Steps:
    """What an encoder makes of one clip.

    Attributes:
        values: (T, D) float32, finite, T at least 1.
        seconds: (T,) float64, the start of each step.
    """

    values: NDArray[np.float32]
    seconds: NDArray[np.float64]


class Encoder(Protocol):
    """What every encoder says about itself; the first four go into the provenance of the features.

    Attributes:
        name: what users call it.
        version: changes whenever the same clip would give other features.
        licence: of the weights, or of the code where there are none.
        checksum: SHA-256 of the weights, ``none`` where there are none.
        width: D.
        step_seconds: from one step to the next.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def checksum(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def step_seconds(self) -> float: ...


class AudioEncoder(Encoder, Protocol):
    """Sound to features.

    Attributes:
        rate: samples per second of the blocks that it takes.
    """

    @property
    def rate(self) -> int: ...

    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        """Encode a waveform that comes in blocks (S,), one after another; None where there are none.

        An encoder that scales a clip to its loudest sample goes through ``blocks`` twice.
        """
        ...


class VideoEncoder(Encoder, Protocol):
    """Pictures to features.

    Attributes:
        rate: frames per second that it takes.
        size: pixels of the shorter side that frames are scaled down to, or None for frames as they are.
    """

    @property
    def rate(self) -> float: ...
    @property
    def size(self) -> int | None: ...

    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Encode frames (H, W, 3), all of one size, each with its time; None where there are none."""
        ...


@dataclass(frozen=True)
class Backbone:
    """An audio and a video encoder that go together.

    Attributes:
        name: what users call it.
        audio: for sound.
        video: for pictures.
    """

    name: str
    audio: AudioEncoder
    video: VideoEncoder

    @property
    def provenance(self) -> dict[str, Any]:
        """What the features say about their origin; clips whose features are to be mixed must agree in it."""
        encoders = {"audio": self.audio, "video": self.video}
        return {
            "backbone": self.name,
            **{
                kind: {fact: getattr(encoder, fact) for fact in _FACTS if hasattr(encoder, fact)}
                for kind, encoder in encoders.items()
            },
        }


def open_backbone(
    name: str,
    *,
    audio_weights: str | Path | None = None,
    video_weights: str | Path | None = None,
    device: str = "cpu",
) -> Backbone:
    """A backbone with its weights loaded.

    Args:
        name: one of ``BACKBONES``.
        audio_weights: file, folder or name on the Hugging Face hub, where the backbone brings none.
        video_weights: the same for pictures.
        device: where the networks run.

    Raises:
        SacmaError: no such backbone, weights missing, damaged, superfluous or of something else, a package
            missing, or no such device.
    """
    if name not in BACKBONES:
        raise SacmaError(f"backbone {name!r} is unknown; expected one of {', '.join(BACKBONES)}")
    needed = _WEIGHTS.get(name, ())
    given = {"audio": audio_weights, "video": video_weights}
    for kind, weights in given.items():
        if weights is None and kind in needed:
            raise SacmaError(f"backbone {name!r} needs {kind} weights; give them as --{kind}-weights")
        if weights is not None and kind not in needed:
            raise SacmaError(f"backbone {name!r} takes no {kind} weights; leave them out")
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


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise SacmaError(f"device {device!r} cannot be used here ({reason}); choose another") from error


def regular_steps(values: list[NDArray[np.float32]], step_seconds: float) -> Steps | None:
    """Batches of vectors (B, D) one after another, as steps from 0 s on; None where there are none."""
    if not values:
        return None
    joined = np.concatenate(values).astype(np.float32, copy=False)
    return Steps(joined, np.arange(len(joined), dtype=np.float64) * step_seconds)


def middle(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The square in the middle of a frame (H, W, 3)."""
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of ``size`` items, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def windows(blocks: Iterable[Waveform], length: int, hop: int) -> Iterator[Waveform]:
    """Windows (length,) of a waveform in blocks, one every ``hop`` samples.

    A waveform shorter than one window is padded with zeros to one; what is left over at the end of a longer
    one is not used. There are none where there is no sound.
    """
    held = np.zeros(0, np.float32)
    skip, some = 0, False
    for block in blocks:
        held = np.concatenate([held, block]) if len(held) else block
        held, skip = held[skip:], max(0, skip - len(held))
        while len(held) >= length:
            yield held[:length]
            some = True
            held, skip = held[hop:], max(0, hop - len(held))
    if not some and len(held):
        yield np.pad(held, (0, length - len(held)))
