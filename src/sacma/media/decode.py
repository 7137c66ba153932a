"""Clips in, frames and waveforms out: any container and codec that FFmpeg reads, by PyAV.

Frames are sampled on a regular grid by time stamp: the frame at t seconds is the one that a player would show
then, so a variable frame rate, a late first frame and a gap make no difference. Sound is resampled, its
channels averaged, and put where its time stamps say, with silence in the gaps. Both come as streams, and a
film of two hours takes no more memory than a clip. Times are seconds from the ``start`` asked for.

A clip is a file that somebody else made. It must be a regular file and no link; playlists that would make
FFmpeg open other files or addresses are refused; and ``Limits`` bounds what a header can make us do.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, requires

Frame = NDArray[np.uint8]
"""(H, W, 3) red, green, blue, 0 to 255."""
Waveform = NDArray[np.float32]
"""(S,) samples, -1 to 1."""

_WHAT = {"audio": "sound", "video": "picture"}
_NEAR = 1e-4
"""Time stamps are rounded; what is nearer than this is the same moment."""
_GAP = 0.1
"""Seconds of sound that may be missing before silence takes their place."""
_PREROLL = 0.5
"""Seconds by which one jumps too short, as the first sounds after a jump may be wrong."""
_SHORT = 1.0
"""Seconds by which a stream may end before its header says so without being called cut short."""


@dataclass(frozen=True)
class Limits:
    """What a clip may ask of us.

    Attributes:
        pixels: of a frame; 8K has 33 million.
        seconds: of the part that is read.
        threads: of a decoder, 0 for as many as there are processors. With more than one, some frames of a
            damaged clip are lost.
        follow_links: accept a symbolic link as a clip.
    """

    pixels: int = 50_000_000
    seconds: float = 4 * 3600.0
    threads: int = 1
    follow_links: bool = False


LIMITS = Limits()


@dataclass(frozen=True)
class Clip:
    """A media file that was opened once and looked at.

    Attributes:
        path: the file.
        seconds: what the header says of its length; None where it says nothing.
        has_audio: there is sound.
        has_video: there are pictures; the cover of a song does not count.
        limits: what is refused.
        notes: what was found wrong while decoding and did not stop it, such as a stream that is cut short.
    """

    path: Path
    seconds: float | None
    has_audio: bool
    has_video: bool
    limits: Limits = LIMITS
    notes: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def open(cls, path: str | Path, *, limits: Limits = LIMITS) -> Self:
        """Look at a file.

        Raises:
            SacmaError: no such file, a link or no regular file, empty, not a media file, damaged beyond
                opening, a playlist, without sound and pictures, or a frame larger than ``limits`` allow.
        """
        path = Path(path)
        with _container(path, limits) as container:
            audio, video = _stream(container, "audio"), _stream(container, "video")
            if audio is None and video is None:
                raise SacmaError(f"{path}: neither sound nor pictures in it; choose another file")
            if video is not None:
                _check_size(path, video.codec_context.width, video.codec_context.height, limits)
            length = container.duration
            seconds = None if length is None or length <= 0 else length / 1_000_000
            unknown = [
                f"its {_WHAT[stream.type]} is in a form that is not known and is left out"
                for stream in container.streams
                if stream.type in _WHAT and stream.codec_context is None
            ]
        return cls(path, seconds, audio is not None, video is not None, limits, unknown)

    def frames(
        self, *, rate: float, size: int | None = None, start: float | None = None, end: float | None = None
    ) -> Iterator[tuple[float, Frame]]:
        """Frames at 0, 1 / ``rate``, 2 / ``rate``, ... seconds after ``start``, upright, each with its time.

        Between ``start`` and ``end`` there is at least one, however short the clip; none without pictures.

        Args:
            rate: frames per second.
            size: pixels of the shorter side; larger frames are scaled down, smaller ones stay as they are.
            start: seconds from the beginning of the clip, by default 0.
            end: seconds from the beginning of the clip, by default its end.

        Raises:
            SacmaError: no such part, larger or longer than the limits, or nothing of it can be decoded.
        """
        first, last = self._part(start, end)
        if not self.has_video:
            return
        due, held, until = 0, None, 0.0
        for time, ends, frame in self._pictures(first):
            while held is not None and first + due / rate < min(time, last) - _NEAR:
                yield due / rate, held.array
                due += 1
            if time >= last - _NEAR and held is not None:
                return
            held, until = _Picture(self.path, frame, size), ends
        if held is None or until <= first:
            return
        while due == 0 or first + due / rate < min(until, last) - _NEAR:
            yield due / rate, held.array
            due += 1

    def waveform(
        self, *, rate: int, start: float | None = None, end: float | None = None
    ) -> Iterator[Waveform]:
        """Blocks of sound (S,), float32, one after another from ``start`` on; nothing without sound.

        Args:
            rate: samples per second.
            start: seconds from the beginning of the clip, by default 0.
            end: seconds from the beginning of the clip, by default its end.

        Raises:
            SacmaError: no such part, longer than the limits, values that are not finite, or nothing of it can
                be decoded.
        """
        first, last = self._part(start, end)
        if not self.has_audio:
            return
        wanted = round((min(last, first + self.limits.seconds) - first) * rate)
        given = drop = 0
        for begin, block in self._sounds(first, rate):
            if begin is not None:  # a new run of samples
                gap = round((begin - first) * rate) - given
                drop = max(0, -gap)
                for silence in _silence(min(gap, wanted - given)):
                    given += len(silence)
                    yield silence
            kept = block[drop : drop + wanted - given]
            drop = max(0, drop - len(block))
            if len(kept):
                given += len(kept)
                yield kept
            if given >= wanted:
                if last == math.inf:
                    raise self._too_long(given / rate)
                return

    def _part(self, start: float | None, end: float | None) -> tuple[float, float]:
        """First and last second of a part of the clip; the last is infinite where only decoding can tell."""
        first, last = start or 0.0, math.inf if end is None else end
        if not 0 <= first < math.inf or not first < last:
            raise SacmaError(
                f"{self.path}: from {start} s to {end} s is no part of a clip; start before the end"
            )
        known = math.inf if self.seconds is None else self.seconds
        if first >= known:
            raise SacmaError(f"{self.path}: {known:.6g} s long, so nothing is left from {first:g} s on")
        if self.limits.seconds < min(last, known) - first < math.inf:
            raise self._too_long(min(last, known) - first)
        return first, last

    def _too_long(self, seconds: float) -> SacmaError:
        return SacmaError(
            f"{self.path}: {seconds:.6g} s or more, the limit is {self.limits.seconds:g} s; choose a part by "
            "start and end, or raise the limit"
        )

    def _pictures(self, first: float) -> Iterator[tuple[float, float, Any]]:
        """Frames from the one shown at ``first`` seconds on: when each begins and ends, and the frame."""
        with _container(self.path, self.limits) as container:
            stream = _stream(container, "video")
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.limits.threads
            stream.codec_context.options = _options(self.limits)
            usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
            time = -usual
            for frame in self._decoded(container, stream, first):
                _check_size(self.path, frame.width, frame.height, self.limits)
                time = time + usual if frame.pts is None else _seconds(frame, container)
                if time - first > self.limits.seconds:
                    raise self._too_long(time - first)
                length = float(frame.duration * frame.time_base) if frame.duration else usual
                yield time, time + length, frame

    def _sounds(self, first: float, rate: int) -> Iterator[tuple[float | None, Waveform]]:
        """Blocks at ``rate`` samples a second; where a run of samples without gaps begins, its time too."""
        import av

        with _container(self.path, self.limits) as container:
            stream = _stream(container, "audio")
            resampler, setup, begin, expected = None, None, None, 0.0
            for frame in self._decoded(container, stream, first):
                time = expected if frame.pts is None else _seconds(frame, container)
                now = (frame.format.name, frame.layout.name, frame.sample_rate)
                if now != setup or abs(time - expected) > _GAP:
                    for block in _resampled(self.path, resampler, None):
                        yield None, block
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                    setup, begin, expected = now, time, time
                expected += frame.samples / frame.sample_rate
                for block in _resampled(self.path, resampler, frame):
                    yield begin, block
                    begin = None
            for block in _resampled(self.path, resampler, None):
                yield begin, block
                begin = None

    def _decoded(self, container: Any, stream: Any, first: float) -> Iterator[Any]:
        """Frames of a stream from before ``first`` seconds on; what is damaged is left out and noted.

        Raises:
            SacmaError: there is something, and none of it can be decoded.
        """
        import av

        if first > 0:
            origin = (container.start_time or 0) / 1_000_000
            with suppress(av.FFmpegError):  # where one cannot jump, one decodes from the beginning
                container.seek(int((first + origin - _PREROLL) * 1_000_000))
        reached, failures = -math.inf, 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the file ends in the middle of something
                failures += 1
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.FFmpegError:
                failures += 1
                continue
            for frame in frames:
                if frame.pts is not None:
                    reached = max(reached, _seconds(frame, container))
                yield frame
        self._note(stream, container, reached, failures)

    def _note(self, stream: Any, container: Any, reached: float, failures: int) -> None:
        """Keep in mind where a stream, decoded to its end, fell short of what its header says."""
        what = _WHAT[stream.type]
        announced = self.seconds or 0.0
        if stream.duration is not None and stream.time_base is not None:
            announced = float(stream.duration * stream.time_base)
        if reached == -math.inf:
            if failures:
                raise SacmaError(
                    f"{self.path}: nothing of its {what} can be decoded; encode or copy it again"
                )
        elif failures or reached < announced - _SHORT:
            note = f"its {what} is damaged: decoded up to {reached:.4g} s of {announced:.4g} s"
            if note not in self.notes:
                self.notes.append(note)


class _Picture:
    """A decoded frame, converted when it is first asked for."""

    def __init__(self, path: Path, frame: Any, size: int | None) -> None:
        self._path, self._frame, self._size = path, frame, size

    @cached_property
    def array(self) -> Frame:
        frame, width, height = self._frame, self._frame.width, self._frame.height
        if self._size is not None and min(width, height) > self._size:
            scale = self._size / min(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        with _converting(self._path, "pictures"):
            array = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
        # FFmpeg says by how much a frame is to be turned, counterclockwise.
        return np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90) % 4))


def _seconds(frame: Any, container: Any) -> float:
    """When a frame begins, from the beginning of the clip; both streams count from the same moment."""
    return float(frame.pts * frame.time_base) - (container.start_time or 0) / 1_000_000


def _resampled(path: Path, resampler: Any, frame: Any) -> Iterator[Waveform]:
    """What comes out for a frame, or at the end for None, the channels averaged."""
    if resampler is None:
        return
    with _converting(path, "sound"):
        blocks = [out.to_ndarray().mean(axis=0, dtype=np.float32) for out in resampler.resample(frame)]
    for block in blocks:
        if not np.isfinite(block).all():
            raise SacmaError(f"{path}: its sound has values that are not finite; encode it again")
        yield block


@contextmanager
def _converting(path: Path, what: str) -> Iterator[None]:
    import av

    try:
        yield
    except (av.FFmpegError, ValueError) as error:  # a form that no conversion is known for
        raise SacmaError(
            f"{path}: its {what} cannot be converted ({_reason(error)}); encode it again"
        ) from error


def _silence(samples: int) -> Iterator[Waveform]:
    for begin in range(0, samples, 1 << 16):
        yield np.zeros(min(1 << 16, samples - begin), np.float32)


def _stream(container: Any, kind: str) -> Any:
    """The stream of a kind that a player would choose, or None; cover art and unknown codecs do not count."""
    from av.stream import Disposition

    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def _options(limits: Limits) -> dict[str, str]:
    """What makes FFmpeg refuse a huge frame before it takes memory for it; it counts margins too."""
    return {"max_pixels": str(2 * limits.pixels + 1_000_000)}


def _check_size(path: Path, width: int, height: int, limits: Limits) -> None:
    # FFmpeg tells no size of a picture that it refused.
    if not 0 < width * height <= limits.pixels:
        raise SacmaError(
            f"{path}: pictures above the limit of {limits.pixels:,} pixels, or of no size at all; raise the "
            "limit if the file is to be trusted"
        )


@contextmanager
def _container(path: Path, limits: Limits) -> Iterator[Any]:
    """A file, opened by FFmpeg, which gets to see this file alone.

    Raises:
        SacmaError: see ``Clip.open``.
    """
    with requires("media", "reading clips needs PyAV"):
        import av
    with _regular_file(path, limits) as file:
        try:
            container = av.open(
                _Bytes(file),
                options=_options(limits),
                metadata_errors="replace",
                io_open=_refuse,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SacmaError(
                f"{path}: not a media file, or damaged beyond opening ({_reason(error)}); choose another file"
            ) from error
        with container:
            yield container


@contextmanager
def _regular_file(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    # Not to be kept waiting by a pipe, and not to be handed another file between looking and opening.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not limits.follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if path.is_symlink():
            raise SacmaError(f"{path}: a symbolic link; name the file itself, or allow links")
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise SacmaError(f"{path}: cannot be read ({_reason(error)})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise SacmaError(f"{path}: no regular file but a folder, device or pipe; choose a media file")
    with open(descriptor, "rb") as file:
        if not status.st_size:
            raise SacmaError(f"{path}: empty, no bytes in it; copy or download it again")
        yield file


class _Bytes:
    """A file without a name: FFmpeg is to judge by the content alone."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError("a clip may not make us open other files")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
