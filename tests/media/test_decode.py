"""Clips to frames and waveforms: by time, in bounded memory, and what is hostile is refused."""

from __future__ import annotations

import os
import resource
import struct
import tracemalloc
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("av")

import av

from clip_files import frame_number, joined, show_as, tone, turn, write_clip, write_pcm
from sacma.errors import SacmaError
from sacma.media.decode import Clip, Limits


def shown(clip: Clip, rate: float, **part: float) -> list[tuple[float, int]]:
    return [(round(time, 6), frame_number(frame)) for time, frame in clip.frames(rate=rate, **part)]


def heard(clip: Clip, rate: int = 16_000, **part: float) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *clip.waveform(rate=rate, **part)])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Three seconds, ten frames a second."""
    return Clip.open(write_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", seconds=3.0))


def test_frames_are_those_shown_at_each_moment(plain: Clip) -> None:
    assert shown(plain, 1) == [(0, 0), (1, 10), (2, 20)]
    assert shown(plain, 4) == [(n / 4, int(n * 2.5)) for n in range(12)]
    assert shown(plain, 20) == [(n / 20, n // 2) for n in range(60)]


def test_a_part_is_that_part_of_the_whole(plain: Clip) -> None:
    assert shown(plain, 2, start=1.0, end=2.0) == [(0, 10), (0.5, 15)]
    assert shown(plain, 1, start=2.55) == [(0, 25)]
    whole = heard(plain)
    part = heard(plain, start=1.25, end=2.0)
    assert len(part) == 12_000
    assert np.abs(part - whole[20_000:32_000])[200:].max() < 0.01


def test_a_variable_frame_rate_makes_no_difference(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", seconds=4.0, times=[0, 0.1, 0.2, 2.5, 2.6, 3.9])
    assert shown(Clip.open(path), 1) == [(0, 0), (1, 2), (2, 2), (3, 4)]


def test_a_clip_shorter_than_a_step_gives_one_frame(tmp_path: Path) -> None:
    clip = Clip.open(write_clip(tmp_path / "clip.mp4", seconds=0.2))
    assert shown(clip, 1) == [(0, 0)]
    assert 0.19 < len(heard(clip)) / 16_000 < 0.3


def test_frames_are_scaled_down_and_never_up(plain: Clip) -> None:
    (_, small), *_ = plain.frames(rate=1, size=24)
    (_, same), *_ = plain.frames(rate=1, size=480)
    assert small.shape == (24, 32, 3)
    assert same.shape == (48, 64, 3)


def test_phone_videos_stand_upright(tmp_path: Path) -> None:
    path = turn(write_clip(tmp_path / "clip.mp4", size=(64, 32), quadrant=0))
    (_, frame), *_ = Clip.open(path).frames(rate=1, size=16)
    assert frame.shape == (32, 16, 3)
    bright = [
        block.mean() > 128 for block in (frame[:16, :8], frame[:16, 8:], frame[16:, 8:], frame[16:, :8])
    ]
    assert bright == [False, True, False, False]  # the corner went clockwise, to the top right


@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 44_100)])
def test_sound_is_resampled_and_its_channels_averaged(tmp_path: Path, channels: int, rate: int) -> None:
    path = write_clip(tmp_path / "clip.mp4", video=False, channels=channels, rate=rate, pitch=1000)
    wave = heard(Clip.open(path))
    assert abs(len(wave) - 32_000) < 2_000
    middle = wave[8_000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 1000
    assert abs(np.abs(middle).max() - 0.5) < 0.03


def test_sound_stands_where_its_time_stamps_say(tmp_path: Path) -> None:
    wave = heard(Clip.open(write_clip(tmp_path / "clip.mkv", seconds=3.0, sound_from=1.5)))
    assert np.abs(wave[: 16_000 * 14 // 10]).max() < 1e-3
    assert np.abs(wave[16_000 * 16 // 10 : 16_000 * 28 // 10]).max() > 0.4


def test_a_missing_stream_gives_nothing(tmp_path: Path) -> None:
    silent = Clip.open(write_clip(tmp_path / "silent.mp4", audio=False))
    blind = Clip.open(write_clip(tmp_path / "blind.m4a", video=False))
    assert (silent.has_audio, silent.has_video, list(silent.waveform(rate=16_000))) == (False, True, [])
    assert (blind.has_audio, blind.has_video, list(blind.frames(rate=1))) == (True, False, [])


def test_a_stream_that_nothing_can_decode_is_left_out_and_noted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    clip = Clip.open(path)
    assert (clip.has_audio, clip.has_video) == (True, False)
    assert clip.notes == ["its picture is in a form that is not known and is left out"]


def test_a_long_film_takes_no_more_memory_than_a_clip(tmp_path: Path) -> None:
    film = Clip.open(write_clip(tmp_path / "film.mkv", seconds=1200.0, fps=1, audio=False))
    tracemalloc.start()
    frames = sum(1 for _ in film.frames(rate=2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 2400
    assert peak < 2_000_000  # all of them are 22 MB


def test_what_is_damaged_is_used_as_far_as_it_goes_and_noted(tmp_path: Path, data_dir: Path) -> None:
    clip = Clip.open(data_dir / "clips/edge/truncated_index_first.mp4")
    assert len(shown(clip, 1)) == 3
    assert 1.9 < len(heard(clip)) / 16_000 < 2.1
    assert [note.split(":")[0] for note in clip.notes] == ["its picture is damaged", "its sound is damaged"]


def png(width: int, height: int) -> bytes:
    """A picture whose header promises much, and whose data are a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9)))
        + chunk(b"IEND", b"")
    )


def make_bad(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a film\n" * 1000)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(write_clip(folder / "other.mp4", seconds=0.5))
    elif kind == "device":
        return Path("/dev/zero")
    elif kind == "playlist":
        other = write_clip(folder / "segment.ts", seconds=1.0)
        lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", other.as_uri(), "#EXT-X-ENDLIST")
        path.write_text("\n".join(lines) + "\n")
    elif kind == "list":
        other = write_clip(folder / "other.mp4", seconds=0.5)
        path.write_text(f"ffconcat version 1.0\nfile '{other.name}'\n")
    elif kind == "huge":
        path.write_bytes(png(60_000, 60_000))
    elif kind == "endless":
        path = write_clip(folder / "endless.mkv", times=[0, 1e6], audio=False)
    elif kind == "cut":
        whole = write_clip(folder / "whole.mp4").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    return path


BAD = (
    "missing",
    "empty",
    "text",
    "folder",
    "pipe",
    "link",
    "device",
    "playlist",
    "list",
    "huge",
    "endless",
    "cut",
)


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_get_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = make_bad(kind, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SacmaError) as error:
        list(Clip.open(path).frames(rate=1))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    )  # kB; the huge one asks for 10 GB


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_damage_anywhere_gives_frames_or_one_clear_error(tmp_path: Path, name: str) -> None:
    whole = write_clip(tmp_path / name, seconds=1.0).read_bytes()
    draw = np.random.default_rng(0)
    for number in range(25):
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 1 + number):
            data[place] = draw.integers(0, 256)
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(data)
        with suppress(SacmaError):
            clip = Clip.open(path)
            assert all(frame.dtype == np.uint8 for _, frame in clip.frames(rate=5, size=16))
            assert all(np.isfinite(block).all() for block in clip.waveform(rate=16_000))


def test_links_can_be_allowed(tmp_path: Path) -> None:
    link = make_bad("link", tmp_path)
    assert shown(Clip.open(link, limits=Limits(follow_links=True)), 1) == [(0, 0)]


def test_limits_can_be_set(plain: Clip) -> None:
    with pytest.raises(SacmaError, match="limit of 100 pixels"):
        Clip.open(plain.path, limits=Limits(pixels=100))
    short = Clip.open(plain.path, limits=Limits(seconds=2.0))
    with pytest.raises(SacmaError, match="the limit is 2 s"):
        list(short.frames(rate=1))
    with pytest.raises(SacmaError, match="the limit is 2 s"):
        list(short.waveform(rate=16_000))
    assert shown(short, 1, start=1.0, end=3.0) == [(0, 10), (1, 20)]


def test_a_length_that_no_header_tells_is_limited_too(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.h264", seconds=6.0, audio=False, codec="libx264")
    clip = Clip.open(path, limits=Limits(seconds=2.0))
    assert clip.seconds is None
    with pytest.raises(SacmaError, match="the limit is 2 s"):
        list(clip.frames(rate=1))


@pytest.mark.parametrize(
    "part", [{"start": -1.0}, {"start": 2.0, "end": 1.0}, {"start": 99.0}, {"start": np.nan}]
)
def test_impossible_parts_are_refused(plain: Clip, part: dict[str, float]) -> None:
    with pytest.raises(SacmaError, match=r"plain\.mp4"):
        list(plain.frames(rate=1, **part))


def test_sound_that_is_no_number_is_refused(tmp_path: Path) -> None:
    samples = tone(0.5, rate=16_000)
    samples[100] = np.nan
    head = (b"RIFF", 36 + samples.nbytes, b"WAVE", b"fmt ", 16, 3, 1, 16_000, 64_000, 4, 32, b"data")
    header = struct.pack("<4sI4s4sIHHIIHH4sI", *head, samples.nbytes)
    path = tmp_path / "clip.wav"
    path.write_bytes(header + samples.tobytes())
    with pytest.raises(SacmaError, match="not finite"):
        list(Clip.open(path).waveform(rate=16_000))


# --- As a player shows them -------------------------------------------------------------------------


def corners(frame: NDArray[np.uint8]) -> str:
    """Which quarter is bright, by its letter: A top left, B top right, C bottom right, D bottom left."""
    height, width = (side // 2 for side in frame.shape[:2])
    quarters = (
        frame[:height, :width],
        frame[:height, width:],
        frame[height:, width:],
        frame[height:, :width],
    )
    return "".join(
        letter for letter, part in zip("ABCD", quarters, strict=True) if part[4:-4, 4:-4].mean() > 128
    )


@pytest.mark.parametrize(
    ("matrix", "corner", "turned"),
    [
        ((1, 0, 0, 1), "A", False),
        ((-1, 0, 0, 1), "B", False),  # mirrored, as by a front camera
        ((1, 0, 0, -1), "D", False),
        ((-1, 0, 0, -1), "C", False),
        ((0, 1, 1, 0), "A", True),
        ((0, -1, -1, 0), "C", True),
        ((0, 1, -1, 0), "B", True),
        ((0, -1, 1, 0), "D", True),
    ],
)
def test_pictures_are_turned_and_mirrored_as_the_file_says(
    tmp_path: Path, matrix: tuple[int, int, int, int], corner: str, turned: bool
) -> None:
    path = show_as(write_clip(tmp_path / "clip.mp4", size=(96, 64), quadrant=0, audio=False), matrix)
    (_, frame), *_ = Clip.open(path).frames(rate=1)
    assert frame.shape == ((96, 64, 3) if turned else (64, 96, 3))
    assert corners(frame) == corner


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_points_that_are_no_squares_are_shown_in_their_true_shape(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, size=(72, 64), aspect=Fraction(16, 9), audio=False)
    (_, frame), *_ = Clip.open(path).frames(rate=1)
    assert frame.shape == (64, 128, 3)
    (_, small), *_ = Clip.open(path).frames(rate=1, size=32)
    assert small.shape == (32, 64, 3)
    with pytest.raises(SacmaError, match="limit of 5,000 pixels"):
        list(Clip.open(path, limits=Limits(pixels=5000)).frames(rate=1))


def test_pictures_that_change_their_size_come_in_one(tmp_path: Path) -> None:
    wide = write_clip(tmp_path / "wide.ts", codec="libx264", audio=False)
    high = write_clip(tmp_path / "high.ts", codec="libx264", audio=False, size=(48, 96), first=20)
    frames = list(Clip.open(joined(tmp_path / "clip.ts", wide, high)).frames(rate=10, size=32))
    assert {frame.shape for _, frame in frames} == {(32, 43, 3)}
    assert len(frames) == 40
    assert frame_number(frames[-1][1]) == 39


# --- Sound ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 9, 10, 16, 24, 48, 64])
def test_any_number_of_channels_is_averaged(tmp_path: Path, channels: int) -> None:
    wave = heard(Clip.open(write_pcm(tmp_path / "clip.wav", channels)))
    assert len(wave) == 8000
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.01)
    assert np.argmax(np.abs(np.fft.rfft(wave))) == 250  # 500 Hz


def test_surround_sound_of_a_film_is_averaged(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", channels=8, rate=48_000, seconds=1.0, pitch=1000)
    wave = heard(Clip.open(path))[2000:14_000]
    assert np.argmax(np.abs(np.fft.rfft(wave))) == 750
    assert np.abs(wave).max() > 0.3


# --- Which track, and from where --------------------------------------------------------------------


def test_a_track_that_nothing_decodes_is_passed_over(tmp_path: Path) -> None:
    """As on a phone whose first track of sound is of a form that others do not know."""
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for stream, loudness in zip(streams, (0.1, 0.5), strict=True):
            wave = (tone(1.0, rate=16_000, loudness=loudness) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert np.abs(heard(Clip.open(path))).max() == pytest.approx(0.1, abs=0.01)
    data = bytearray(path.read_bytes())
    first = data.index(b"sowt")
    data[first : first + 4] = b"apac"
    path.write_bytes(data)
    clip = Clip.open(path)
    assert np.abs(heard(clip)).max() == pytest.approx(0.5, abs=0.01)
    assert clip.notes == []


def test_a_stream_that_begins_in_the_middle_keeps_its_sound_and_what_follows(tmp_path: Path) -> None:
    """There is a key frame at 3 s; the first half second is cut off, and with it what says the size."""
    whole = write_clip(tmp_path / "whole.ts", seconds=6.0, codec="libx264", gop=30).read_bytes()
    path = tmp_path / "clip.ts"
    path.write_bytes(whole[len(whole) // 12 // 188 * 188 :])
    clip = Clip.open(path)
    assert (clip.has_audio, clip.has_video) == (True, True)
    assert len(heard(clip)) == pytest.approx(88_000, abs=6000)
    numbers = [number for _, number in shown(clip, 1)]
    assert len(numbers) in (5, 6)
    assert numbers[0] == 30
    (note,) = clip.notes
    assert note.startswith("its picture begins in the middle: nothing of it before 2.")


def test_pictures_that_nothing_decodes_leave_the_sound(tmp_path: Path) -> None:
    whole, path = write_clip(tmp_path / "whole.mkv", codec="libx264"), tmp_path / "clip.mkv"
    with av.open(str(whole)) as read, av.open(str(path), "w") as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is None:
                continue
            copy = av.Packet(b"\xff" * packet.size if packet.stream.type == "video" else bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.stream = copies[packet.stream.index]
            container.mux(copy)
    clip = Clip.open(path)
    assert list(clip.frames(rate=1)) == []
    assert len(heard(clip)) == pytest.approx(32_000, abs=2500)
    assert clip.notes == ["nothing of its picture can be decoded; it is left out"]


# --- Intact files are not called damaged ------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.flv", "clip.webm"])
def test_slides_stay_to_the_end_and_are_no_damage(tmp_path: Path, name: str) -> None:
    codec = {"webm": "libvpx", "flv": "flv"}.get(name.split(".")[1], "mpeg4")
    path = write_clip(tmp_path / name, times=[0, 3, 6, 9], audio=False, codec=codec, shown=3.0)
    clip = Clip.open(path)
    assert [number for _, number in shown(clip, 1)] == [n // 3 for n in range(12)]
    assert clip.notes == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.flv", "clip.webm", "clip.ts"])
def test_sound_that_is_shorter_than_the_pictures_is_no_damage(tmp_path: Path, name: str) -> None:
    codec = {"webm": "libvpx", "flv": "flv", "ts": "libx264"}.get(name.split(".")[1], "mpeg4")
    sound = {"webm": "libopus", "avi": "mp3"}.get(name.split(".")[1], "aac")
    path = write_clip(
        tmp_path / name,
        times=[n / 10 for n in range(60)],
        seconds=2.0,
        codec=codec,
        sound_codec=sound,
        rate=48_000,
    )
    clip = Clip.open(path)
    assert len(shown(clip, 1)) in (6, 7)
    assert len(heard(clip)) == pytest.approx(32_000, abs=2500)
    assert clip.notes == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv"])
def test_files_that_are_cut_are_still_called_damaged(tmp_path: Path, name: str) -> None:
    codec = "flv" if name.endswith("flv") else "mpeg4"
    path = write_clip(tmp_path / name, seconds=6.0, codec=codec, size=(320, 240))
    if name.endswith("mp4"):
        path = with_index_first(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = Clip.open(path)
    list(clip.frames(rate=1))
    assert [note.split(":")[0] for note in clip.notes] == ["its picture is damaged"]


def with_index_first(path: Path) -> Path:
    """A copy of an mp4 file that can be played from its beginning on."""
    copy = path.with_name(f"first-{path.name}")
    with av.open(str(path)) as read, av.open(str(copy), "w", options={"movflags": "faststart"}) as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    return copy
