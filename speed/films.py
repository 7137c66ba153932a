"""Clips and films for ``extraction.py``: pictures that move, with grain and sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_clip(
    path: Path,
    *,
    seconds: float,
    size: tuple[int, int] = (1280, 720),
    fps: int = 25,
    group: int = 250,
    b_frames: int = 3,
    grain: float = 5.0,
) -> Path:
    """A clip by x264 and AAC.

    Args:
        path: where it goes.
        seconds: its length.
        size: width and height of its pictures.
        fps: pictures per second.
        group: pictures from one key frame to the next at most; 250 is the encoder's own choice.
        b_frames: pictures in a row at most to which no other one refers; phones have 0.
        grain: standard deviation of the noise, of 255.
    """
    random = np.random.default_rng(0)
    width, height = size
    scene = _scene(random, width, height)
    noise = random.normal(0, grain, (4, height, width, 1)).astype(np.float32)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "bf": str(b_frames), "g": str(group), "b-pyramid": "normal"}
        pictures: Any = container.add_stream("libx264", rate=fps, options=options)
        pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
        sound: Any = container.add_stream("aac", rate=44_100, layout="stereo")
        for number in range(round(seconds * fps)):
            left, top = (8 * number) % width, (3 * number) % height
            shown = np.roll(scene, (-top, -left), axis=(0, 1)) + noise[number % len(noise)]
            frame = av.VideoFrame.from_ndarray(np.clip(shown, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        wave = random.normal(0, 0.1, (1, 2 * round(seconds * 44_100))).astype(np.float32)
        heard = av.AudioFrame.from_ndarray(wave, format="flt", layout="stereo")
        heard.sample_rate = 44_100
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    return path


def _scene(random: np.random.Generator, width: int, height: int) -> Any:
    """(H, W, 3) of large and small shapes."""
    scene = np.zeros((height, width, 3), np.float32)
    for scale in (8, 20, 90):
        few = random.random((height // scale + 1, width // scale + 1, 3), np.float32)
        scene += np.kron(few, np.ones((scale, scale, 1), np.float32))[:height, :width] * 85
    return scene


def repeated(path: Path, source: Path, times: int) -> Path:
    """A film of the packets of a clip, so many times behind each other."""
    with av.open(str(path), "w") as film:
        copies: dict[int, Any] = {}
        for number in range(times):
            with av.open(str(source)) as clip:
                for stream in clip.streams:
                    if not number:
                        copies[stream.index] = film.add_stream_from_template(stream)
                length = Fraction(clip.duration or 0, 1_000_000)
                for packet in clip.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    later = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = copies[packet.stream.index]
                    film.mux(packet)
    return path
