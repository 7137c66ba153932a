"""One decoded stream of an open file: its frames in order, their times, and its faults."""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

from sacma.media.containers import Limits, codec_options
from sacma.media.timeline import Timeline
from sacma.media.unsampled import NEAR, Doubt, Grid, Role, Selection, understood

WHAT = {"audio": "sound", "video": "picture"}
_LITTLE = 0.1
"""Seconds of sound within it that may be lost without a word, such as headers where files were joined."""
_NOTIMESTAMPS, _TS_DISCONT = 0x80, 0x200
"""FFmpeg's flags of a format: AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT."""
_SHORT = 1.0
"""Seconds by which a stream may end before its header says so without being called cut short."""


def discontinuous(container: Any) -> bool:
    """True for formats whose time stamps may jump, so that no header can tell the length of the clip."""
    return bool(int(container.format.flags) & _TS_DISCONT)


def timed(container: Any) -> list[Any]:
    """Streams whose packets show the position in the file."""
    return [stream for stream in container.streams if stream.type in WHAT]


def origin(container: Any) -> float:
    """The time stamp in seconds of the beginning of the clip; all streams count from it."""
    return (container.start_time or 0) / 1_000_000


class Track:
    """A stream that is decoded once, from some moment to the end of the file.

    Args:
        container: PyAV's, open and at its beginning.
        stream: one of its streams.
        limits: what is refused.
        grid: pictures that are not sampled by it need not be decoded; None to decode all.

    Attributes:
        kind: ``audio`` or ``video``.
        usual: seconds that a picture stays where the file does not say.
        ends: seconds where the last picture ends; the file may say so after it.
        decoded: something was decoded.
        refused: packets that could not be decoded.
    """

    def __init__(self, container: Any, stream: Any, limits: Limits, grid: Grid | None = None) -> None:
        self.kind: str = stream.type
        self._container, self._stream, self._origin = container, stream, origin(container)
        self._timeline = Timeline(discontinuous=discontinuous(container))
        self.usual = 0.0
        if self.kind == "video":
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = limits.threads
            stream.codec_context.options = codec_options(limits)
            self.usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self.ends = self._begins = self._packed = -math.inf
        self._from = math.inf  # where the first packet begins
        self._lasting = True  # all packets say how long they last
        self._last: tuple[float, bool] = (-math.inf, True)  # when the last frame begins, is its end known
        self._longest = 0.0  # from one frame to the next
        self.decoded, self._sought = False, False
        self._lead, self._failures, self._lost = 0, 0, 0.0
        self._head: list[Any] = []
        self._selection: Selection | None = None
        self._only_key_frames = grid is not None and limits.key_frames
        if grid is not None and (limits.key_frames or understood(stream.codec_context)):
            self._selection = Selection(grid, stream.codec_context, key_frames=limits.key_frames)
        self._since = math.inf  # time stamp of the first independent picture; those before may be lost
        self._expected: list[float] = []  # time stamps of what was decoded and did not come out yet
        self._passed: list[tuple[float, float]] = []  # pictures that were not decoded: start, length
        self._rest = self._all()

    @property
    def aspect(self) -> Any:
        """Width of a shown point divided by its height; None where the file does not say."""
        return self._stream.sample_aspect_ratio

    @property
    def refused(self) -> int:
        return self._lead + self._failures

    @property
    def jumps(self) -> int:
        """Number of jumps of the time stamps."""
        return self._timeline.jumps

    def seek(self, seconds: float) -> bool:
        """Seek to a moment in the clip; return False where that is not possible."""
        import av

        self._sought = True
        try:
            self._container.seek(int((seconds + self._origin) * 1_000_000))
        except av.FFmpegError:
            return False
        return True

    def begins_by(self, seconds: float) -> bool:
        """True if the first frame is known to lie at or before a moment."""
        self._peek()
        return any(frame.pts is not None and self._time(frame) <= seconds + NEAR for frame in self._head)

    def begins(self) -> bool:
        """True if anything can be decoded."""
        self._peek()
        return bool(self._head)

    def _peek(self) -> None:
        if not self._head:
            self._head = [frame for frame in (next(self._rest, None),) if frame is not None]

    def frames(self) -> Iterator[tuple[float | None, float, Any]]:
        """Yield the start of each frame in seconds (None where unknown), its duration, and the frame.

        Frames that need not be decoded are None.

        Raises:
            Doubt: with a grid, the decoder gives other frames than expected.
        """
        while True:
            self._peek()
            if not self._head:
                break
            frame = self._head.pop()
            length = self._length(frame)
            begins = None if frame.pts is None else self._time(frame)
            if begins is not None:
                yield from self._passed_by(begins)
                self._count(begins, length, known=bool(frame.duration))
            self.decoded = True
            yield begins, length, frame
        yield from self._passed_by(math.inf)
        announced = self._announced()
        if not self._last[1] and announced is not None and announced - self._last[0] <= self._patient():
            self.ends = max(self.ends, announced)  # only the whole tells how long the last picture stays

    def _passed_by(self, moment: float) -> Iterator[tuple[float, float, None]]:
        """Yield start and duration of the pictures before a moment that were not decoded."""
        while self._passed and self._passed[0][0] < moment:
            begins, lasting = heappop(self._passed)
            length = lasting or self.usual
            self._count(begins, length, known=bool(lasting))
            yield begins, length, None

    def _count(self, begins: float, length: float, *, known: bool) -> None:
        if self._last[0] == -math.inf:
            self._begins = begins
        else:
            self._longest = max(self._longest, begins - self._last[0])
        self._last = (begins, known)
        self.ends = max(self.ends, begins + length)

    def _length(self, frame: Any) -> float:
        if frame.duration:
            return float(frame.duration * frame.time_base)
        return self.usual if self.kind == "video" else frame.samples / frame.sample_rate

    def _time(self, frame: Any) -> float:
        return float(frame.pts * frame.time_base) - self._origin

    def _all(self) -> Iterator[Any]:
        """Yield the decoded frames."""
        import av

        for packet in self._packets() if self._selection is None else self._needed():
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if self._since < math.inf:
                    raise Doubt from error
                if self.decoded or self._head:
                    self._failures += 1
                    self._lost += float((packet.duration or 0) * (packet.time_base or 0))
                else:
                    self._lead += 1
                continue
            for frame in frames:
                self._check(frame)
                yield frame
        if self._expected:
            raise Doubt

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the stream; the last one, which is empty, makes the decoder give the rest."""
        import av

        packets, tick = self._container.demux(*timed(self._container)), float(self._stream.time_base or 0)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the file ends in the middle of something
                self._failures, self._lost = self._failures + 1, math.inf
                return
            if packet is None:
                return
            self._timeline.place(packet)
            if packet.stream.index != self._stream.index:  # packet.stream_index is 0 at the end
                continue
            shown = packet.dts if packet.pts is None else packet.pts
            if shown is not None:
                self._from = min(self._from, shown * tick - self._origin)
                end = (shown + (packet.duration or 0)) * tick - self._origin
                self._packed = max(self._packed, end)
                self._lasting = self._lasting and bool(packet.duration) and not packet.is_corrupt
                if not packet.size:  # the last picture is to be shown again
                    self.ends = max(self.ends, end)
                    continue
            yield packet

    def _needed(self) -> Iterator[Any]:
        """Yield the packets that have to be decoded."""
        assert self._selection is not None
        for packet in self._packets():
            # Of what is decoded and not shown, the time says nothing.
            unknown = packet.pts is None or packet.is_discard
            for one in (
                self._selection.put(packet, None if unknown else self._time(packet))
                if packet.size
                else self._selection.rest(self._over())
            ):
                stamp = -math.inf if one.packet.pts is None else one.packet.pts
                if one.role is Role.INDEPENDENT and not self._only_key_frames:
                    self._since = min(self._since, stamp)
                if one.needed or (self._since == math.inf and not self._only_key_frames):
                    if stamp >= self._since and not one.packet.is_discard:
                        heappush(self._expected, stamp)
                    yield one.packet
                elif one.time is not None:
                    length = float((one.packet.duration or 0) * one.packet.time_base)
                    heappush(self._passed, (one.time, length))
            if not packet.size:
                yield packet

    def _over(self) -> float | None:
        """Seconds where the last picture ends, once all packets came; None where that is not sure."""
        announced = self._announced()
        if announced is None or not self._lasting or self.refused:
            return None
        return max(announced, self._packed, self.ends)

    def _check(self, frame: Any) -> None:
        """Check that a frame is the next one that is expected, and undamaged.

        Raises:
            Doubt: it is not.
        """
        if self._since == math.inf or (frame.pts is not None and frame.pts < self._since):
            return
        if frame.is_corrupt or not self._expected or heappop(self._expected) != frame.pts:
            raise Doubt

    def _announced(self) -> float | None:
        """End of the stream in seconds as the file says; None where it does not say, or only guesses."""
        stream, container = self._stream, self._container
        if self.jumps or _is_bare(container):
            return None
        whole = math.inf if not container.duration else container.duration / 1_000_000
        if stream.duration is not None and stream.time_base is not None:
            begins = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
            # What was cut off by an edit is in the length of the stream and not in that of the whole.
            return min(whole, max(0.0, begins - self._origin) + float(stream.duration * stream.time_base))
        tagged = _tag_seconds(stream.metadata.get("DURATION", ""))
        if tagged is not None:
            return min(whole, tagged - self._origin)
        missing = whole - (self._timeline.end - self._origin)  # of the streams together, where none says
        return self._packed + missing if _SHORT < missing < math.inf else self._packed

    def _patient(self) -> float:
        return max(_SHORT, self._longest) + max(self.usual, NEAR)

    def complaints(self) -> list[str]:
        """Faults of a stream that was read to its end."""
        what, found = WHAT[self.kind], []
        if self.jumps:
            found.append(jump_note(self.jumps))
        if not self.decoded:
            return found
        if not self._sought and self._begins - self._from > _SHORT:
            found.append(
                f"its {what} begins in the middle: nothing of it before {self._begins:.4g} s can be shown"
            )
        announced = self._announced()
        until = self._packed if announced is None else max(announced, self._packed)
        if self.ends > -math.inf and until - self.ends > self._patient():
            found.append(f"its {what} is damaged: decoded up to {self.ends:.4g} s of {until:.4g} s")
        elif self._failures and (self.kind == "video" or self._lost > _LITTLE):
            found.append(f"its {what} is damaged: {self._failures} of its packets cannot be decoded")
        return found


def jump_note(jumps: int) -> str:
    """Note about time stamps that jump."""
    return f"its time stamps jump {jumps} time{'s' if jumps > 1 else ''}; what follows is put right behind"


def _is_bare(container: Any) -> bool:
    """True for formats without a header that tells the length: FFmpeg guesses it from the number of bytes."""
    return bool(int(container.format.flags) & _NOTIMESTAMPS) or container.format.name in _BARE


_BARE = frozenset(("mp3", "aac", "ac3", "eac3", "dts", "truehd", "mlp", "loas", "amr", "h264", "hevc", "m4v"))


def _tag_seconds(text: str) -> float | None:
    """Seconds of Matroska's tag, such as 00:00:12.007000000."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
