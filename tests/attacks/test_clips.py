"""Damaged and malicious clips: a seeded fuzzer of the decoder.

A case is a small clip with some bytes changed, moved, cut, or mixed with another one. Right is that it is
read or refused by one ``SacmaError`` soon, and that the next clip is read. ``SACMA_FUZZ_SECONDS`` sets for
how long cases are tried; by default each kind of file gets a few seconds.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import av

from clip_files import write_clip, write_pcm
from sacma.errors import SacmaError
from sacma.media.decode import Clip, Limits

SECONDS = float(os.environ.get("SACMA_FUZZ_SECONDS", "0"))
LIMITS = Limits(pixels=1_000_000, seconds=30.0, patience=10.0, memory=512 << 20)
CASES = 40
"""Of each kind of file where no time is set."""
SLOWEST = 30.0


def write_gif(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for number in range(10):
            grey = np.full((48, 64, 3), 25 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "mp4": lambda path: write_clip(path, seconds=1.0, codec="libx264"),
    "mov": lambda path: write_clip(path, seconds=1.0, sound_codec="pcm_s16le", channels=2),
    "mkv": lambda path: write_clip(path, seconds=1.0, codec="libx265", sound_codec="flac"),
    "webm": lambda path: write_clip(
        path, seconds=1.0, codec="libvpx-vp9", sound_codec="libopus", rate=48_000
    ),
    "avi": lambda path: write_clip(path, seconds=1.0, sound_codec="mp3"),
    "ts": lambda path: write_clip(path, seconds=1.0, codec="libx264", gop=5),
    "mpg": lambda path: write_clip(
        path, seconds=1.0, codec="mpeg2video", sound_codec="mp2", fps=25, ticks=25, rate=48_000
    ),
    "flv": lambda path: write_clip(path, seconds=1.0, codec="flv", rate=44_100),
    "h264": lambda path: write_clip(path, seconds=1.0, codec="libx264", audio=False),
    "m4a": lambda path: write_clip(path, seconds=1.0, video=False, channels=8, rate=48_000),
    "aac": lambda path: write_clip(path, seconds=1.0, video=False),
    "mp3": lambda path: write_clip(path, seconds=1.0, video=False, sound_codec="mp3"),
    "ogg": lambda path: write_clip(path, seconds=1.0, video=False, sound_codec="libopus", rate=48_000),
    "wav": lambda path: write_pcm(path, 12, rate=8000),
    "gif": write_gif,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    return {kind: write(folder / f"clip.{kind}").read_bytes() for kind, write in KINDS.items()}


NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


def changed(whole: bytes, other: bytes, draw: np.random.Generator) -> bytes:
    """A clip with some of it changed; most changes are few and near the beginning, where the headers are."""
    data = bytearray(whole)
    for _ in range(int(draw.choice([1, 1, 2, 4, 16, 64]))):
        reach = len(data) if draw.random() < 0.5 else min(len(data), 2000)
        at, length = int(draw.integers(0, max(1, reach))), int(draw.choice([1, 4, 16, 200]))
        match draw.choice(["byte", "bit", "number", "cut", "twice", "mix", "zero", "end"]):
            case "byte":
                data[at : at + 1] = draw.bytes(1)
            case "bit":
                data[at : at + 1] = bytes(b ^ (1 << int(draw.integers(8))) for b in data[at : at + 1])
            case "number":
                number = int(draw.choice(NUMBERS))
                size = int(draw.choice([2, 4]))
                data[at : at + size] = (number % (1 << (8 * size))).to_bytes(
                    size,
                    str(draw.choice(["big", "little"])),  # type: ignore[arg-type]
                )
            case "cut":
                del data[at : at + length]
            case "twice":
                data[at:at] = data[at : at + length]
            case "mix":
                start = int(draw.integers(0, len(other)))
                data[at : at + length] = other[start : start + length]
            case "zero":
                data[at : at + length] = bytes(length)
            case "end":
                del data[max(at, len(data) // 4) :]
    return bytes(data)


def cases(kind: str, seeds: dict[str, bytes]) -> Iterator[tuple[int, bytes]]:
    for number in count():
        draw = np.random.default_rng([sum(kind.encode()), number])
        yield number, changed(seeds[kind], seeds[str(draw.choice(list(seeds)))], draw)


def read(path: Path) -> str:
    """How reading a clip, or a part of it, ends."""
    part = {"start": 0.4, "end": 0.8} if path.stem.endswith("7") else {}
    try:
        clip = Clip.open(path, limits=LIMITS)
        for frame in islice(clip.frames(rate=5, size=16, **part), 200):
            assert frame[1].dtype == np.uint8
        for block in clip.waveform(rate=8000, **part):
            assert np.isfinite(block).all()
    except SacmaError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert len(message) < 1000
        assert "\n" not in message
        return (
            "crashed" if "decoder crashed" in message else "given up" if "given up" in message else "refused"
        )
    return "read"


@pytest.mark.parametrize("kind", KINDS)
def test_changed_clips_are_read_or_refused(kind: str, seeds: dict[str, bytes], tmp_path: Path) -> None:
    good = tmp_path / f"good.{kind}"
    good.write_bytes(seeds[kind])
    assert read(good) == "read"
    until = time.monotonic() + (SECONDS / len(KINDS) or 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended: Counter[str] = Counter()
    for number, content in islice(cases(kind, seeds), None if SECONDS else CASES):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(content)
        begun = time.monotonic()
        ended[how := read(path)] += 1
        assert time.monotonic() - begun < SLOWEST, path
        if how in ("crashed", "given up"):
            print(f"{kind} {number}: {how}")
            assert read(good) == "read"
        path.unlink()
        if time.monotonic() > until:
            break
    print(kind, dict(ended))
    assert read(good) == "read"
    assert sum(ended.values()) > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
