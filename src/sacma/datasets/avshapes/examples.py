"""Clips of AV-Shapes as files that play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacma.data.class_lists import write_table
from sacma.datasets.avshapes.definition import (
    CLASSES,
    clip_seed,
    file_stem,
)
from sacma.datasets.avshapes.render import render_clip
from sacma.errors import SacmaError, requires
from sacma.files import replacing


def write_examples(out: Path, clips: int, *, size: int = 256) -> list[Path]:
    """Write clips of the benchmark as mp4 files, one class after another, then the next clip of each class.

    Beside them stands ``clips.csv``, path and class of each, as ``sacma extract`` reads it.

    Raises:
        SacmaError: PyAV is missing, ``clips`` is below 1, or the folder cannot be written to.
    """
    if clips < 1:
        raise SacmaError(f"{clips} clips to write; choose at least 1")
    written = []
    for place in range(clips):
        number, position = divmod(place, len(CLASSES))
        name = CLASSES[position]
        target = out / f"{file_stem(name)}-{number:02d}.mp4"
        write_mp4(name, clip_seed(name, number), target, size=size)
        written.append(target)
    rows = [(target.name, CLASSES[place % len(CLASSES)]) for place, target in enumerate(written)]
    write_table(out / "clips.csv", ("path", "class"), rows)
    return written


def write_mp4(class_name: str, seed: int, target: Path, *, size: int = 256, fps: int = 24) -> None:
    """Render a clip and write it as mp4: H.264, or MPEG-4 where PyAV has no encoder for it, and AAC.

    Raises:
        SacmaError: PyAV is missing, ``size`` is odd, or the file cannot be written.
    """
    with requires("media", "writing mp4 files needs PyAV"):
        import av
    if size < 16 or size % 2:
        raise SacmaError(f"a picture of {size} pixels cannot be encoded; choose an even number from 16 on")
    frames, _, waveform, rate = render_clip(class_name, seed, size=size, fps=fps)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with replacing(target) as partial, av.open(str(partial), "w", format="mp4") as container:
        pictures: Any = container.add_stream(codec, rate=fps)
        pictures.width = pictures.height = size
        pictures.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("aac", rate=rate, layout="mono")
        for frame in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(pictures.encode(None))
        heard = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        heard.sample_rate = rate
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
