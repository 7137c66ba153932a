"""Arrays and open files give the features that files give; what is no clip is refused in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_files import tone, write_clip
from sacma.errors import SacmaError
from sacma.media.backbones import open_backbone
from sacma.media.decode import LIMITS, Clip, Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.media.recording import Played, Recording
from sacma.media.sources import name_of, opened, settled

pytest.importorskip("av")
RATE = 8_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    write_clip(path)
    return path


@pytest.fixture(scope="module")
def recording(clip: Path) -> Recording:
    """The clip's own pictures and sound."""
    file = Clip.open(clip)
    frames = np.stack([frame for _, frame in file.frames(rate=10)])
    samples = np.concatenate(list(file.waveform(rate=RATE)))
    return Recording(frames=frames, frame_rate=10, samples=samples, sample_rate=RATE, name="arrays")


def same(first: ClipFeatures, second: ClipFeatures) -> None:
    for kind in ("audio", "video"):
        one, other = getattr(first, kind), getattr(second, kind)
        assert one.values.shape == other.values.shape
        assert one.values == pytest.approx(other.values, abs=1e-5)


@pytest.mark.parametrize("part", [{}, {"start": 0.5, "end": 1.5}])
def test_arrays_are_read_as_the_file_is(clip: Path, recording: Recording, part: dict[str, float]) -> None:
    backbone = open_backbone("descriptors")
    same(extract_clip(recording, backbone, **part), extract_clip(clip, backbone, **part))


def test_an_open_file_is_read_as_the_file_is(clip: Path) -> None:
    backbone = open_backbone("descriptors")
    with clip.open("rb") as file:
        made = extract_clip(file, backbone)
    same(made, extract_clip(clip, backbone))
    same(extract_clip(io.BytesIO(clip.read_bytes()), backbone), made)


def test_sound_is_resampled_and_its_channels_are_averaged() -> None:
    left = tone(1.0, rate=44_100, pitch=1_000)
    both = np.stack([left, np.zeros_like(left)], axis=1)
    for samples, factor in ((both, 1.0), ((both * 32_767).astype(np.int16), 1.0), (left, 2.0)):
        played = Played(Recording(samples=samples, sample_rate=44_100), limits=LIMITS)
        heard = np.concatenate(list(played.waveform(rate=16_000)))
        assert len(heard) == pytest.approx(16_000, abs=20)
        assert np.abs(np.fft.rfft(heard[:16_000])).argmax() == pytest.approx(1_000, abs=2)
        assert np.abs(heard[2_000:-2_000]).max() == pytest.approx(factor * np.abs(left).max() / 2, rel=0.02)


def test_pictures_lie_on_the_grid_that_is_asked_for() -> None:
    frames = np.arange(8, dtype=np.uint8).repeat(4 * 6 * 3).reshape(8, 4, 6, 3)
    played = Played(Recording(frames=frames, frame_rate=4), limits=LIMITS)
    shown = [(time, int(frame[0, 0, 0]), frame.shape) for time, frame in played.frames(rate=2, size=2)]
    assert shown == [(0.0, 0, (2, 3, 3)), (0.5, 2, (2, 3, 3)), (1.0, 4, (2, 3, 3)), (1.5, 6, (2, 3, 3))]
    assert [time for time, _ in played.frames(rate=2, start=1.9)] == [0.0]
    assert [int(frame[0, 0, 0]) for _, frame in played.frames(rate=4, start=0.5, end=1.0)] == [2, 3]


SOUND, PICTURES = np.zeros(100), np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither frames nor samples"),
        ({"samples": SOUND}, "sample_rate is None"),
        ({"samples": SOUND, "sample_rate": 0.5}, "sample_rate is 0.5"),
        ({"samples": np.zeros((2, 100)), "sample_rate": 8}, "turn"),
        ({"samples": np.zeros(9, np.int32), "sample_rate": 8}, "samples of int32"),
        ({"samples": np.array([0.0, np.nan]), "sample_rate": 8}, "not finite"),
        ({"frames": PICTURES, "frame_rate": -1}, "frame_rate is -1"),
        ({"frames": PICTURES[0], "frame_rate": 1}, "expected"),
        ({"frames": PICTURES / 255, "frame_rate": 1}, "frames of float64"),
    ],
)
def test_arrays_of_another_form_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SacmaError, match=f"^odd: .*{message}"):
        Recording(**given, name="odd")


def test_limits_hold_for_arrays() -> None:
    film = Recording(frames=PICTURES, frame_rate=0.1, name="slow")
    with pytest.raises(SacmaError, match=r"^slow: frames above the limit of 15 pixels"):
        Played(film, limits=Limits(pixels=15))
    with pytest.raises(SacmaError, match=r"^slow: 20 s, the limit is 5 s"):
        list(Played(film, limits=Limits(seconds=5)).frames(rate=1))
    for start, message in ((20.0, "nothing is left"), (-1.0, "no part")):
        with pytest.raises(SacmaError, match=message):
            list(Played(film, limits=LIMITS).frames(rate=1, start=start))


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "clip.mp4"
    text.write_text("no film")
    with text.open() as file, pytest.raises(SacmaError, match=r"clip\.mp4: opened as text"):
        settled(file).__enter__()  # type: ignore[arg-type]
    with text.open("rb") as closed:
        pass
    with pytest.raises(SacmaError, match=r"clip\.mp4: cannot be read"):
        settled(closed).__enter__()
    with pytest.raises(SacmaError, match="a clip of type int"):
        settled(7).__enter__()  # type: ignore[arg-type]
    with pytest.raises(SacmaError, match=r"^open file: "), opened(io.BytesIO(b"no film"), limits=LIMITS):
        pass


def test_the_copy_of_an_open_file_is_removed() -> None:
    with settled(io.BytesIO(b"film")) as path:
        assert isinstance(path, Path)
        assert path.read_bytes() == b"film"
    assert not path.parent.exists()
    assert name_of(io.BytesIO()) == "open file"
