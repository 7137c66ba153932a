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
    sound_codec: str = "aac",
    first: int = 0,
    gop: int | None = None,
    aspect: Fraction | None = None,
    shown: float | None = None,
    ticks: int = 1000,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Frame n is grey, 20 + 5 n bright (each 45 the same again); the sound is a tone in all channels.

    ``times`` (seconds, one a frame) takes the place of ``fps``; ``quadrant`` 0 to 3 paints a white corner,
    clockwise from the top left, and leaves the rest black; ``first`` is the number of the first frame;
    ``gop`` frames are from one key frame to the next; ``aspect`` is how many times as wide as high the points
    are; ``shown`` is how many seconds each picture is said to stay; ``ticks`` a second are in time stamps;
    ``pix_fmt`` is FFmpeg's name of the form of its pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    times = np.arange(round(seconds * fps)) / fps if times is None else times
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream(codec, rate=fps) if video else None
        sound: Any = container.add_stream(sound_codec, rate=rate, layout=_layout(channels)) if audio else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = width, height, pix_fmt
            pictures.bit_rate, pictures.time_base = 2_000_000, Fraction(1, ticks)
            pictures.codec_context.time_base = Fraction(1, ticks)
            if gop is not None:
                pictures.gop_size, pictures.max_b_frames = gop, 0
            if aspect is not None:
                pictures.codec_context.sample_aspect_ratio = aspect
            for number, time in enumerate(times):
                picture = _picture(first + number, width, height, quadrant)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time * ticks), Fraction(1, ticks)
                container.mux(_staying(pictures.encode(frame), shown))
            container.mux(_staying(pictures.encode(None), shown))
        if sound is not None:
            wave = tone(seconds - sound_from, rate=rate, pitch=pitch, loudness=loudness)
            packed = np.repeat(wave[:, None], channels, axis=1).reshape(1, -1)
            heard = av.AudioFrame.from_ndarray(packed, format="flt", layout=_layout(channels))
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
    return show_as(path, (0, 1, -1, 0))


def show_as(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Have the pictures of an mp4 file shown with (x, y) at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    one, corner = 1 << 16, 1 << 30
    a, b, c, d = (one * value for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, corner)
    path.write_bytes(data)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Files behind each other in one, as ``cat`` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def fragmented(path: Path, source: Path) -> Path:
    """A copy as MP4 of pieces with an index each, as recorders of live streams write it."""
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(source)) as read, av.open(str(path), "w", format="mp4", options=flags) as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    return path


def shifted(path: Path, source: Path, *, after: float, by: float, kinds: Sequence[str]) -> Path:
    """A copy whose packets of some kinds of streams have time stamps ``by`` seconds later after a moment."""
    with av.open(str(source)) as read, av.open(str(path), "w") as container:
        begins = (read.start_time or 0) / 1_000_000
        copies = {stream.index: container.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if packet.stream.type in kinds and float(packet.dts * packet.time_base) - begins > after:
                packet.pts += round(by / packet.time_base)
                packet.dts += round(by / packet.time_base)
            packet.stream = copies[packet.stream.index]
            container.mux(packet)
    return path


def write_pcm(path: Path, channels: int, *, rate: int = 16_000, seconds: float = 0.5) -> Path:
    """A wave file of 16 bits with a tone of 500 Hz, 0.5 loud, in all channels."""
    wave = (tone(seconds, rate=rate, pitch=500.0) * 32767).astype("<i2")
    data = np.repeat(wave[:, None], channels, axis=1).tobytes()
    kind = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    body = (
        b"WAVE"
        + b"fmt "
        + struct.pack("<I", len(kind))
        + kind
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def _staying(packets: list[Any], seconds: float | None) -> list[Any]:
    for packet in packets if seconds is not None else ():
        packet.duration = round(seconds / packet.time_base)
    return packets


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo", 8: "7.1"}[channels]


def _picture(number: int, width: int, height: int, quadrant: int | None) -> NDArray[np.uint8]:
    if quadrant is None:
        return np.full((height, width, 3), 20 + 5 * (number % 45), np.uint8)
    picture = np.zeros((height, width, 3), np.uint8)
    rows, columns = ((0, 0), (0, 1), (1, 1), (1, 0))[quadrant]
    top, left = rows * height // 2, columns * width // 2
    picture[top : top + height // 2, left : left + width // 2] = 255
    return picture


def write_film(path: Path, parts: Sequence[tuple[float, int, float]], *, fps: int = 10) -> Path:
    """A film of known content: parts of (seconds, grey 0 to 255, pitch in Hz), one after another."""
    rate = 16_000
    ends = np.cumsum([seconds for seconds, _, _ in parts])
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream("mpeg4", rate=fps)
        sound: Any = container.add_stream("aac", rate=rate, layout="mono")
        pictures.width, pictures.height, pictures.pix_fmt = 32, 24, "yuv420p"
        for number in range(round(ends[-1] * fps)):
            _, grey, _ = parts[int(np.searchsorted(ends, number / fps, side="right"))]
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), grey, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        wave = np.concatenate([tone(seconds, rate=rate, pitch=pitch) for seconds, _, pitch in parts])
        heard = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        heard.sample_rate = rate
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    return path
