"""Interface of a backbone: streams in, one vector a step out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sacma.media.arrays import TimedFrame, Waveform

_FACTS = ("name", "version", "licence", "checksum", "model")


@dataclass(frozen=True)
class Steps:
    """Features of one clip by one encoder.

    Attributes:
        values: (T, D) float32, finite, T at least 1.
        seconds: (T,) float64, the start of each step.
    """

    values: NDArray[np.float32]
    seconds: NDArray[np.float64]


class Encoder(Protocol):
    """Facts about an encoder; the first four go into the provenance of the features.

    Attributes:
        name: its name for users.
        version: changes whenever the same clip would give other features.
        licence: of the weights, or of the code where there are none.
        checksum: SHA-256 of the weights, ``none`` where there are none.
        width: D.
        step_seconds: from one step to the next.
        looks: optional, seconds that a step looks at from its start on, 0 for a single frame; see ``looks``.
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


def looks(encoder: Encoder) -> float:
    """Seconds that a step of an encoder looks at, from its start on; by default as long as a step."""
    return float(getattr(encoder, "looks", encoder.step_seconds))


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
        name: its name for users.
        audio: for sound.
        video: for pictures.
        package: name and version of the package that brought it, empty for ours.
    """

    name: str
    audio: AudioEncoder
    video: VideoEncoder
    package: str = ""

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin of the features; clips whose features are mixed must agree in it."""
        encoders = {"audio": self.audio, "video": self.video}
        return {
            "backbone": self.name,
            **({"package": self.package} if self.package else {}),
            **{
                kind: {fact: getattr(encoder, fact) for fact in _FACTS if hasattr(encoder, fact)}
                for kind, encoder in encoders.items()
            },
        }
