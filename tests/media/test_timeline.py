"""Time stamps that jump, and parts of clips in which one cannot simply seek."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("av")

from clip_files import fragmented, frame_number, joined, shifted, write_clip
from sacma.media.decode import Clip
from sacma.media.timeline import Timeline

HOUR = 3600.0


def shown(clip: Clip, **part: float) -> list[int]:
    """The numbers of the frames, one a second."""
    return [frame_number(frame) for _, frame in clip.frames(rate=1, **part)]


def heard(clip: Clip, **part: float) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *clip.waveform(rate=16_000, **part)])


def silent_seconds(wave: NDArray[np.float32]) -> float:
    """How much of a tone is missing, in steps of 10 ms."""
    loud = np.abs(wave[: len(wave) // 160 * 160]).reshape(-1, 160).max(axis=1)
    return float((loud < 0.05).sum()) / 100


# --- The rule ---------------------------------------------------------------------------------------


def placed(stamps: list[tuple[int, float]], *, discontinuous: bool = True) -> tuple[list[float], int]:
    """Where packets of 0.1 s, given by stream and time stamp, are put; and how often time stamps jumped."""
    timeline, times = Timeline(discontinuous=discontinuous), []
    for stream, seconds in stamps:
        packet = SimpleNamespace(
            stream_index=stream,
            dts=round(seconds * 1000),
            pts=round(seconds * 1000),
            duration=100,
            is_keyframe=True,
            time_base=Fraction(1, 1000),
        )
        timeline.place(packet)
        times.append(packet.pts / 1000)
    return times, timeline.jumps


def test_stamps_that_are_right_stay() -> None:
    stamps = [(n % 2, n * 0.05) for n in range(40)] + [(0, 8.0), (1, 8.1)]
    times, jumps = placed(stamps)
    assert times == pytest.approx([seconds for _, seconds in stamps])
    assert jumps == 0


def test_after_a_jump_ahead_all_streams_go_on_together() -> None:
    times, jumps = placed([(0, 0.0), (1, 0.0), (0, HOUR), (1, 0.1), (1, HOUR + 0.1), (0, HOUR + 0.1)])
    assert times == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])
    assert jumps == 1


def test_after_a_jump_back_nothing_is_at_the_same_time() -> None:
    times, jumps = placed([(0, 5.0), (0, 5.1), (0, 0.0), (0, 0.1)], discontinuous=False)
    assert times == pytest.approx([5.0, 5.1, 5.2, 5.3])
    assert jumps == 1


def test_a_picture_that_stands_still_while_sound_goes_on_is_no_jump() -> None:
    stamps = [(0, 0.0), *((1, n / 10) for n in range(300)), (0, 30.0)]
    assert placed(stamps)[1] == 0


def test_only_formats_whose_stamps_may_jump_ahead_are_not_believed() -> None:
    assert placed([(0, 0.0), (0, HOUR)], discontinuous=False) == ([0.0, HOUR], 0)


# --- Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("video", "audio"), ("audio",), ("video",)])
def test_a_stream_that_jumps_an_hour_ahead_is_as_long_as_its_content(
    tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    whole = write_clip(tmp_path / "whole.ts", seconds=6.0, codec="libx264")
    clip = Clip.open(shifted(tmp_path / "jump.ts", whole, after=3.0, by=HOUR, kinds=kinds))
    assert clip.seconds == pytest.approx(6.0, abs=0.3)
    expected = shown(Clip.open(whole))
    assert len(expected) in (6, 7)
    assert shown(clip) == expected
    assert len(heard(clip)) == pytest.approx(len(heard(Clip.open(whole))), abs=1600)
    assert [note for note in clip.notes if "time stamps jump" in note]
    assert shown(clip, start=4.0, end=6.0) == expected[4:6]
    assert silent_seconds(heard(clip, start=4.0, end=6.0)) < 0.1


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.ts", "libx264", "aac"),
        ("a.webm", "libvpx", "libopus"),
        ("a.mkv", "libx264", "aac"),
        ("a.mpg", "mpeg2video", "mp2"),
        ("a.flv", "libx264", "aac"),
    ],
)
def test_recordings_that_were_joined_lose_nothing(tmp_path: Path, name: str, codec: str, sound: str) -> None:
    setup: dict[str, Any] = {"codec": codec, "sound_codec": sound, "fps": 25, "ticks": 25, "gop": 25}
    setup |= {"seconds": 3.0, "rate": 44_100 if name == "a.flv" else 48_000}
    first = write_clip(tmp_path / f"1-{name}", **setup)
    second = write_clip(tmp_path / f"2-{name}", first=75, **setup)
    clip = Clip.open(joined(tmp_path / name, first, second))
    assert clip.seconds == pytest.approx(6.0, abs=0.2)
    assert clip.notes == ["its time stamps jump 1 time; what follows is put right behind"]
    numbers = [frame_number(frame) for _, frame in clip.frames(rate=5)]
    steps = [(after - before) % 45 for before, after in pairwise(numbers)]
    assert len(numbers) in (30, 31)
    assert all(abs(step - 5) <= 3 for step in steps), numbers
    wave = heard(clip)
    assert len(wave) / 16_000 == pytest.approx(6.0, abs=0.2)
    assert silent_seconds(wave) < 0.15
    later = [frame_number(frame) for _, frame in clip.frames(rate=5, start=4.0)]
    assert later == numbers[20:]


def test_pieces_of_mp4_that_were_joined_are_read_to_the_end(tmp_path: Path) -> None:
    """FFmpeg leaves out about a second where the second one begins."""
    setup: dict[str, Any] = {"codec": "libx264", "fps": 25, "ticks": 25, "gop": 25, "rate": 48_000}
    parts = [
        fragmented(tmp_path / f"f-{part}.mp4", write_clip(tmp_path / f"{part}.mp4", seconds=3.0, **setup))
        for part in range(2)
    ]
    clip = Clip.open(joined(tmp_path / "both.mp4", *parts))
    assert clip.seconds == pytest.approx(6.0, abs=0.2)
    assert clip.notes == ["its time stamps jump 1 time; what follows is put right behind"]
    numbers = [frame_number(frame) for _, frame in clip.frames(rate=5)]
    assert len(numbers) in (30, 31)
    for several in (numbers[:15], numbers[22:30]):
        assert all(abs((after - before) % 45 - 5) <= 3 for before, after in pairwise(several)), numbers
    wave = heard(clip)
    assert len(wave) / 16_000 == pytest.approx(6.0, abs=0.2)
    assert silent_seconds(wave) < 1.5
    assert silent_seconds(heard(clip, start=4.5)) < 0.15
    assert len(heard(clip, start=4.5)) / 16_000 == pytest.approx(1.5, abs=0.2)


def test_mp4_files_that_were_joined_show_the_first_as_in_players(tmp_path: Path) -> None:
    """Of an index of the whole file, players read the first alone."""
    path = write_clip(tmp_path / "1.mp4", seconds=3.0, fps=25)
    clip = Clip.open(joined(tmp_path / "2.mp4", path, path))
    assert clip.notes == ["more than one recording in it, of which players show the first alone"]
    assert clip.seconds == pytest.approx(3.0, abs=0.1)
    assert shown(clip) == shown(Clip.open(path))
    assert Clip.open(path).notes == []


def test_a_seek_that_lands_behind_the_moment_is_repeated_earlier(tmp_path: Path) -> None:
    """The only key frame is the first."""
    path = write_clip(tmp_path / "clip.ts", seconds=6.0, codec="libx264", gop=1000)
    whole = shown(Clip.open(path))
    assert shown(Clip.open(path), start=3.0) == whole[3:]
    part = heard(Clip.open(path), start=3.0, end=5.0)
    assert np.abs(part - heard(Clip.open(path))[48_000:80_000])[800:].max() < 0.02


def test_streams_without_time_stamps_are_decoded_from_the_beginning(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.h264", seconds=6.0, audio=False, codec="libx264", gop=10, ticks=10)
    whole = shown(Clip.open(path))
    assert len(whole) == 6  # ten frames a second, as the stream itself says
    assert shown(Clip.open(path), start=2.0, end=5.0) == whole[2:5]


def test_a_part_of_a_gif(tmp_path: Path) -> None:
    import av

    path = tmp_path / "clip.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for number in range(10):
            grey = np.full((48, 64, 3), 36 * (number % 7), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    clip = Clip.open(path)
    whole = [float(frame.mean()) for _, frame in clip.frames(rate=10)]
    assert [float(frame.mean()) for _, frame in clip.frames(rate=10, start=0.2, end=0.5)] == whole[2:5]
    assert len(set(whole[2:5])) == 3


def test_the_length_of_a_recording_that_does_not_tell_it(tmp_path: Path) -> None:
    """Browsers write webm as a stream: neither its size nor its length is in the header."""
    import av

    whole, path = write_clip(tmp_path / "whole.mkv", seconds=3.0), tmp_path / "clip.mkv"
    with av.open(str(whole)) as read, av.open(str(path), "w", options={"live": "1"}) as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    with av.open(str(path)) as container:
        assert container.duration is None
    clip = Clip.open(path)
    assert clip.seconds == pytest.approx(3.0, abs=0.2)
    assert clip.notes == []
