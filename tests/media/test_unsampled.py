"""What is not decoded changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clip_files import write_clip
from sacma.media.containers import LIMITS
from sacma.media.pictures import FrameFormat
from sacma.media.reader import Reader
from sacma.media.tracks import Track
from sacma.media.unsampled import Doubt, Grid, Held, Role, Selection

STREAMS: dict[str, dict[str, Any]] = {
    "x264.mp4": {"codec": "libx264"},
    "x264.ts": {"codec": "libx264", "sound_codec": "mp2"},
    "short-groups.mp4": {"codec": "libx264", "gop": 7},
    "x265.mp4": {"codec": "libx265"},
    "x265-short-groups.mkv": {"codec": "libx265", "gop": 7},
    "mjpeg.mkv": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "uneven.mkv": {"codec": "libx264", "times": [0, 0.04, 0.3, 0.31, 0.32, 0.9, 1.4, 1.41, 1.42, 1.43, 2.6]},
}
LEAVES_OUT = {*STREAMS} - {"mpeg4.avi", "uneven.mkv"}
PARTS = ((1.0, 0.0, 9.0), (2.0, 0.7, 2.3), (25.0, 0.0, 9.0), (0.3, 1.5, 9.0), (3.7, 0.11, 9.0))
"""Pictures a second, start and end in seconds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    for name, options in STREAMS.items():
        write_clip(folder / name, **{"seconds": 3.0, "fps": 25} | options)
    return folder


def opened(path: Path) -> Reader:
    reader = Reader(path, LIMITS)
    reader.open()
    return reader


def sampled(path: Path, part: tuple[float, float, float], *, selects: bool) -> list[tuple[float, bytes]]:
    rate, first, last = part
    reader = opened(path)
    frames = reader._sampled(first, last, rate, FrameFormat(None, LIMITS), selects=selects)
    return [(time, frame.tobytes()) for time, frame in frames]


def sent(path: Path, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Pictures that are decoded, and those that are not."""
    with monkeypatch.context(), av.open(str(path)) as container:
        found = [frame for _, _, frame in Track(container, container.streams.video[0], LIMITS, grid).frames()]
    return sum(frame is not None for frame in found), sum(frame is None for frame in found)


@pytest.mark.parametrize("name", STREAMS)
def test_sampled_pictures_are_those_of_decoding_all(folder: Path, name: str) -> None:
    for part in PARTS:
        expected = sampled(folder / name, part, selects=False)
        assert sampled(folder / name, part, selects=True) == expected, part
        assert expected


@pytest.mark.parametrize("name", STREAMS)
def test_pictures_that_nobody_needs_are_not_decoded(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, left_out = sent(folder / name, Grid(0.0, 1.0), monkeypatch)
    assert decoded + left_out == len(STREAMS[name].get("times", range(75)))
    if name == "mjpeg.mkv":
        assert decoded == 3  # three moments
    assert (left_out > 20) == (name in LEAVES_OUT)


@pytest.mark.parametrize("name", ["x264.mp4", "x265.mp4", "mjpeg.mkv"])
def test_what_follows_the_last_moment_is_not_decoded(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2.0 <= last_decoded(folder / name) < 2.5  # moments are 0, 1 and 2 s; the next picture in decoding
    # Where the last picture may stay for longer, or nobody knows for how long, it may be sampled.
    for until in (3.1, None):
        monkeypatch.setattr(Track, "_announced", lambda self, until=until: until)
        assert last_decoded(folder / name) > 2.9


def last_decoded(path: Path) -> float:
    """Seconds at which the last decoded picture begins, where one a second is sampled."""
    with av.open(str(path)) as container:
        frames = Track(container, container.streams.video[0], LIMITS, Grid(0.0, 1.0)).frames()
        return max(begins for begins, _, frame in frames if frame is not None and begins is not None)


def test_where_all_are_sampled_all_are_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(folder / "x264.mp4", Grid(0.0, 25.0), monkeypatch) == (75, 0)


def test_a_damaged_clip_is_decoded_whole(folder: Path, tmp_path: Path) -> None:
    with av.open(str(folder / "x264.mp4")) as container:
        largest = sorted(container.demux(video=0), key=lambda packet: packet.size)[-3:-1]
    content = bytearray((folder / "x264.mp4").read_bytes())
    for packet in largest:
        content[packet.pos + 4 : packet.pos + packet.size] = b"\xff" * (packet.size - 4)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with pytest.raises(Doubt):
        sampled(damaged, (5.0, 0.0, 9.0), selects=True)
    found = opened(damaged).frames(rate=5.0, size=None, start=0.0, end=9.0)
    expected = sampled(damaged, (5.0, 0.0, 9.0), selects=False)
    assert [(time, frame.tobytes()) for time, frame in found] == expected


def test_a_decoder_that_gives_something_else_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "x264.mp4"
    expected = sampled(path, (1.0, 0.0, 9.0), selects=False)
    monkeypatch.setattr(Track, "_packets", without_the_eighth(Track._packets))
    with pytest.raises(Doubt):
        sampled(path, (1.0, 0.0, 9.0), selects=True)
    monkeypatch.undo()
    assert sampled(path, (1.0, 0.0, 9.0), selects=True) == expected


def without_the_eighth(packets: Any) -> Any:
    """Packets of a stream, of which one's time stamp is wrong."""

    def changed(track: Track) -> Any:
        for number, packet in enumerate(packets(track)):
            if number == 8:
                packet.pts += 1 << 20
            yield packet

    return changed


@pytest.mark.parametrize(
    "name", ["x264.mp4", "short-groups.mp4", "x265-short-groups.mkv", "mpeg4.avi", "mjpeg.mkv"]
)
def test_fast_takes_the_last_key_frame(folder: Path, name: str) -> None:
    with av.open(str(folder / name)) as container:
        keys = [
            float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe
        ]
    part = {"rate": 2.0, "size": None, "start": None, "end": None}
    every = list(opened(folder / name).frames(**{**part, "rate": 25.0}))
    reader = Reader(folder / name, replace(LIMITS, key_frames=True))
    reader.open()
    found = list(reader.frames(**part))
    assert [time for time, _ in found] == [time for time, _ in opened(folder / name).frames(**part)]
    for time, frame in found:
        last = max(key for key in keys if key <= time + 1e-3)
        assert np.array_equal(frame, every[round(last * 25)][1])
    assert not reader.notes


def test_fast_decodes_all_where_no_frame_is_marked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(folder / "mpeg4.avi", replace(LIMITS, key_frames=True))
    reader.open()
    monkeypatch.setattr(
        Selection, "put", lambda self, packet, time: [Held(packet, time, Role.DISPOSABLE, needed=False)]
    )
    assert len(list(reader.frames(rate=1.0, size=None, start=0.0, end=2.5))) == 3
