"""Decoding in this process (``decode.Clip`` uses another one). Error messages leave out the name of the file.

A part is found by seeking, and seeking is checked: the first frame must lie at or before the moment asked
for, else one seeks earlier, and in the end decodes from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sacma.errors import SacmaError
from sacma.media import containers
from sacma.media.arrays import Frame, Waveform
from sacma.media.containers import Limits, opened, reason, streams
from sacma.media.pictures import FrameFormat, Picture, check_size
from sacma.media.timeline import Timeline
from sacma.media.tracks import WHAT, Track, discontinuous, jump_note, origin, timed
from sacma.media.unsampled import NEAR, Doubt, Grid

_JOINABLE = frozenset({"matroska", "mp4", "flv"})
"""Formats whose files can be joined as they are, the header then being that of the first."""
_GAP = 0.1
"""Seconds of sound that may be missing before silence takes their place."""
_BACK = (0.5, 8.0, 64.0)
"""Seconds by which one jumps too short, tried in turn; the first sounds after a jump may be wrong."""


@dataclass
class Reader:
    """A media file that is decoded in this process.

    Attributes:
        path: the file.
        limits: what is refused.
        seconds: how long it is; None where that is not known.
        jumps: its time stamps jump, so one cannot seek in it.
        has_audio: there is sound.
        has_video: there are pictures; the cover of a song does not count.
        notes: what was found wrong and did not stop it.
    """

    path: Path
    limits: Limits
    seconds: float | None = None
    jumps: bool = False
    has_audio: bool = True
    has_video: bool = True
    notes: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Open the file and fill in the attributes.

        Raises:
            SacmaError: see ``containers.opened``; neither sound nor pictures, or a frame above the limit.
        """
        one = containers.one_recording(self.path, self.limits)
        with opened(self.path, self.limits) as container:
            found = {kind: streams(container, kind) for kind in WHAT}
            if not any(found.values()):
                raise SacmaError("neither sound nor pictures in it; choose another file")
            for stream in found["video"][:1]:
                check_size(stream.codec_context.width, stream.codec_context.height, self.limits)
            length = container.duration
            self.seconds = None if length is None or length <= 0 else length / 1_000_000
            self.has_audio, self.has_video = bool(found["audio"]), bool(found["video"])
            for stream in timed(container):
                if stream.codec_context is None and not found[stream.type]:
                    self.note(f"its {WHAT[stream.type]} is in a form that is not known and is left out")
            joinable = not _JOINABLE.isdisjoint(container.format.name.split(","))
            if discontinuous(container) or (joinable and not one):
                self._scan(container)
                if "mp4" in container.format.name and not self.jumps:
                    self.note("more than one recording in it, of which players show the first alone")

    def _scan(self, container: Any) -> None:
        """Read all packets: headers do not tell of jumps, and recorders of browsers write no length."""
        import av

        timeline = Timeline(discontinuous=discontinuous(container))
        with suppress(av.FFmpegError):  # the file ends in the middle of something
            for packet in container.demux(*timed(container)):
                timeline.place(packet)
        length = timeline.end - origin(container)
        if timeline.jumps:
            self.jumps = True
            self.note(jump_note(timeline.jumps))
        if 0 < length < math.inf and (self.jumps or self.seconds is None):
            self.seconds = length

    def note(self, text: str) -> None:
        """Remember a fault, to be told with the clip."""
        if text not in self.notes:
            self.notes.append(text)

    def frames(
        self, *, rate: float, size: int | None, start: float | None, end: float | None
    ) -> Iterator[tuple[float, Frame]]:
        """See ``decode.Clip.frames``."""
        first, last = self._part(start, end)
        if not self.has_video:
            return
        given, shape = 0, FrameFormat(size, self.limits)
        try:
            for sampled in self._sampled(first, last, rate, shape, selects=True):
                given += 1
                yield sampled
        except Doubt:  # what was given so far is right
            pass
        else:
            if given or not self.limits.key_frames:
                return
        yield from islice(self._sampled(first, last, rate, shape, selects=False), given, None)

    def _sampled(
        self, first: float, last: float, rate: float, shape: FrameFormat, *, selects: bool
    ) -> Iterator[tuple[float, Frame]]:
        """Pictures at ``first``, ``first`` + 1 / ``rate``, ... seconds; see ``_pictures``."""
        due, held, until = 0, None, 0.0
        for time, ends, picture in self._pictures(first, shape, Grid(first, rate) if selects else None):
            while held is not None and first + due / rate < min(time, last) - NEAR:
                yield due / rate, held.array
                due += 1
            if time >= last - NEAR and held is not None:
                return
            held, until = picture or held, ends
        if held is None or until <= first:
            return
        while due == 0 or first + due / rate < min(until, last) - NEAR:
            yield due / rate, held.array
            due += 1

    def waveform(self, *, rate: int, start: float | None, end: float | None) -> Iterator[Waveform]:
        """See ``decode.Clip.waveform``."""
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
            raise SacmaError(f"from {start} s to {end} s is no part of a clip; start before the end")
        known = math.inf if self.seconds is None else self.seconds
        if first >= known:
            raise SacmaError(f"{known:.6g} s long, so nothing is left from {first:g} s on")
        if self.limits.seconds < min(last, known) - first < math.inf:
            raise self._too_long(min(last, known) - first)
        return first, last

    def _too_long(self, seconds: float) -> SacmaError:
        return SacmaError(
            f"{seconds:.6g} s or more, the limit is {self.limits.seconds:g} s; choose a part by start and "
            "end, or raise the limit"
        )

    def _pictures(
        self, first: float, shape: FrameFormat, grid: Grid | None
    ) -> Iterator[tuple[float, float, Picture | None]]:
        """Pictures from the one shown at ``first`` seconds on: when each begins and ends, and the picture.

        The last item has none: it says until when the picture before it stays. Nor have those that are not
        sampled by ``grid``, where one is given.

        Raises:
            Doubt: with a grid, the decoder gives other pictures than expected.
        """
        with self._track("video", first, grid) as track:
            if track is None:
                return
            ends = 0.0
            for begins, length, frame in track.frames():
                if frame is not None:
                    check_size(frame.width, frame.height, self.limits)
                time = ends if begins is None else begins
                ends = time + length
                if time - first > self.limits.seconds:
                    raise self._too_long(time - first)
                yield time, ends, None if frame is None else Picture(frame, track.aspect, shape)
            if track.ends > ends:
                yield track.ends, track.ends, None

    def _sounds(self, first: float, rate: int) -> Iterator[tuple[float | None, Waveform]]:
        """Blocks at ``rate`` samples a second; where a run of samples without gaps begins, its time too."""
        import av

        with self._track("audio", first) as track:
            if track is None:
                return
            resampler, setup, begin, expected = None, None, None, 0.0
            for begins, _, frame in track.frames():
                time = expected if begins is None else begins
                now = (frame.format.name, frame.layout.name, frame.sample_rate)
                if now != setup or abs(time - expected) > _GAP:
                    for block in _resampled(resampler, None):
                        yield None, block
                    # Packed, as PyAV looks for eight or more planes where there are none.
                    resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=rate)
                    setup, begin, expected = now, time, time
                expected += frame.samples / frame.sample_rate
                for block in _resampled(resampler, frame):
                    yield begin, block
                    begin = None
            for block in _resampled(resampler, None):
                yield begin, block
                begin = None

    @contextmanager
    def _track(self, kind: str, first: float, grid: Grid | None = None) -> Iterator[Track | None]:
        """The first stream of a kind that can be decoded, at or before ``first`` seconds; None without one.

        Raises:
            SacmaError: nothing of it can be decoded, and there is nothing else in the file.
        """
        backs = [back for back in _BACK if first - back > 0 and not self.jumps] if first > 0 else []
        number = 0
        while True:
            with opened(self.path, self.limits) as container:
                found = streams(container, kind)
                track = Track(container, found[number], self.limits, grid)
                if backs and not (track.seek(first - backs.pop(0)) and track.begins_by(first)):
                    continue
                if track.begins() or not track.refused:
                    yield track
                    for complaint in track.complaints():
                        self.note(complaint)
                    return
                number += 1
                if number == len(found):
                    break
                self.note(f"a track of {WHAT[kind]} cannot be decoded, and another is used")
        lost = f"nothing of its {WHAT[kind]} can be decoded"
        if not (self.has_audio and self.has_video):
            raise SacmaError(f"{lost}; encode or copy it again")
        self.note(f"{lost}; it is left out")
        yield None


def _resampled(resampler: Any, frame: Any) -> Iterator[Waveform]:
    """Yield the resampled sound of a frame, or of the rest for None, channels averaged."""
    import av

    if resampler is None:
        return
    try:
        blocks = [_mean(out) for out in resampler.resample(frame)]
    except (av.FFmpegError, ValueError) as error:  # a form that no conversion is known for
        raise SacmaError(f"its sound cannot be converted ({reason(error)}); encode it again") from error
    for block in blocks:
        if not np.isfinite(block).all():
            raise SacmaError("its sound has values that are not finite; encode it again")
        yield block


def _mean(frame: Any) -> Waveform:
    """(S,) mean over the channels of a packed frame."""
    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))  # (S, channels)
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def _silence(samples: int) -> Iterator[Waveform]:
    for begin in range(0, samples, 1 << 16):
        yield np.zeros(min(1 << 16, samples - begin), np.float32)
