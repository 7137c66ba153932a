"""Writes small clips for tests: what is seen and heard at each moment is known."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def write_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    times: Sequence[float] | None = None,
    video: bool = True,
    audio: bool = True,
    sound_from: float = 0.0,
    rate: int = 16_000,
    channels: int = 1,
    pitch: float = 440.0,
    loudness: float = 0.5,
    quadrant: int | None = None,
    codec: str = "mpeg4",
) -> Path:
    """Frame n is grey, 20 + 5 n bright (each 50 the same again); the sound is a tone in all channels.

    ``times`` (seconds, one a frame) takes the place of ``fps``; ``quadrant`` 0 to 3 paints a white corner,
    clockwise from the top left, and leaves the rest black.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    times = np.arange(round(seconds * fps)) / fps if times is None else times
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream(codec, rate=fps) if video else None
        sound: Any = container.add_stream("aac", rate=rate, layout=_layout(channels)) if audio else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
            pictures.bit_rate, pictures.time_base = 2_000_000, Fraction(1, 1000)
            pictures.codec_context.time_base = Fraction(1, 1000)
            for number, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(_picture(number, width, height, quadrant), format="rgb24")
                frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if sound is not None:
            wave = tone(seconds - sound_from, rate=rate, pitch=pitch, loudness=loudness)
            heard = av.AudioFrame.from_ndarray(
                np.repeat(wave[None], channels, axis=0), format="fltp", layout=_layout(channels)
            )
            heard.sample_rate, heard.pts = rate, round(sound_from * rate)
            heard.time_base = Fraction(1, rate)
            container.mux(sound.encode(heard))
            container.mux(sound.encode(None))
    return path


def tone(seconds: float, *, rate: int, pitch: float = 440.0, loudness: float = 0.5) -> NDArray[np.float32]:
    """A tone (S,)."""
    return (loudness * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def frame_number(frame: NDArray[np.uint8]) -> int:
    """Which frame of ``write_clip`` this is."""
    return round((float(frame.mean()) - 20) / 5)


def turn(path: Path) -> Path:
    """Mark the pictures of an mp4 file as to be shown turned clockwise by a right angle, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # the pictures' header is the first
    one, corner = 1 << 16, 1 << 30
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, corner)
    path.write_bytes(data)
    return path


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}[channels]


def _picture(number: int, width: int, height: int, quadrant: int | None) -> NDArray[np.uint8]:
    if quadrant is None:
        return np.full((height, width, 3), 20 + 5 * (number % 45), np.uint8)
    picture = np.zeros((height, width, 3), np.uint8)
    rows, columns = ((0, 0), (0, 1), (1, 1), (1, 0))[quadrant]
    top, left = rows * height // 2, columns * width // 2
    picture[top : top + height // 2, left : left + width // 2] = 255
    return picture
