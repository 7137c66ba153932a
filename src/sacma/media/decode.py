"""Clips in, frames and waveforms out: any container on a list and any codec that FFmpeg reads, by PyAV.

Frames are sampled on a regular grid by time stamp: the frame at t seconds is the one that a player would show
then, so a variable frame rate, a late first frame and a gap make no difference. Sound is resampled, its
channels averaged, and put where its time stamps say, with silence in the gaps. Both come as streams, and a
film of two hours takes no more memory than a clip. Times are seconds from the ``start`` asked for.

A clip is a file that somebody else made. It must be a regular file and no link; only formats that have all in
one file are opened (``containers``); it is decoded by another process, which can open nothing else and may
crash (``process``); and ``Limits`` bounds what a header can make us do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from sacma.errors import SacmaError
from sacma.media import process
from sacma.media.arrays import Frame, Waveform
from sacma.media.containers import LIMITS, Film, Limits

__all__ = ["LIMITS", "Clip", "FileSource", "Film", "Frame", "Limits", "Waveform"]


FileSource = str | Path | Film
"""What is opened as a clip."""


@dataclass(frozen=True)
class Clip:
    """A media file that was opened once and looked at.

    Attributes:
        path: the file.
        seconds: how long it is; None where neither the file nor its time stamps say.
        has_audio: there is sound.
        has_video: there are pictures; the cover of a song does not count.
        limits: what is refused.
        jumps: its time stamps jump; they are repaired.
        notes: what was found wrong while decoding and did not stop it, such as a stream that is cut short.
        sound: the file with the sound, where that is another one.
    """

    path: Path
    seconds: float | None
    has_audio: bool
    has_video: bool
    limits: Limits = LIMITS
    jumps: bool = False
    notes: list[str] = field(default_factory=list, compare=False)
    sound: Clip | None = None

    @classmethod
    def open(cls, path: FileSource, *, limits: Limits = LIMITS) -> Self:
        """Open a file and read its header.

        Raises:
            SacmaError: no such file, a link or no regular file, empty, not a media file of a format that is
                read, damaged beyond opening, without sound and pictures, or a frame larger than ``limits``
                allow; or the decoder crashed, took too long or too much memory.
        """
        if isinstance(path, Film):
            pictures, sound = cls.open(path.path, limits=limits), cls.open(path.sound, limits=limits)
            lengths = [one.seconds for one in (pictures, sound) if one.seconds is not None]
            whole = max(lengths, default=None)
            return replace(pictures, seconds=whole, has_audio=sound.has_audio, sound=sound)
        path = Path(path)
        for message, _ in _ask(path, limits, {"do": "open", "known": {}}):
            found = message["done"]
        notes = found.pop("notes")
        return cls(path, limits=limits, notes=notes, **found)

    def frames(
        self, *, rate: float, size: int | None = None, start: float | None = None, end: float | None = None
    ) -> Iterator[tuple[float, Frame]]:
        """Frames at 0, 1 / ``rate``, 2 / ``rate``, ... seconds after ``start``, each with its time.

        They stand upright, as a player shows them, and are of one size. Between ``start`` and ``end`` there
        is at least one, however short the clip; none without pictures.

        Args:
            rate: frames per second.
            size: pixels of the shorter side; larger frames are scaled down, smaller ones stay as they are.
            start: seconds from the beginning of the clip, by default 0.
            end: seconds from the beginning of the clip, by default its end.

        Raises:
            SacmaError: no such part, larger or longer than the limits, nothing of it can be decoded, or the
                decoder crashed, took too long or too much memory.
        """
        last: Frame | None = None
        for message, frame in self._stream(do="frames", rate=rate, size=size, start=start, end=end):
            last = last if frame is None else frame
            assert last is not None
            yield float(message["time"]), last

    def waveform(
        self, *, rate: int, start: float | None = None, end: float | None = None
    ) -> Iterator[Waveform]:
        """Blocks of sound (S,), float32, one after another from ``start`` on; nothing without sound.

        Args:
            rate: samples per second.
            start: seconds from the beginning of the clip, by default 0.
            end: seconds from the beginning of the clip, by default its end.

        Raises:
            SacmaError: no such part, longer than the limits, values that are not finite, nothing of it can be
                decoded, or the decoder crashed, took too long or too much memory.
        """
        if self.sound is not None:
            yield from self.sound.waveform(rate=rate, start=start, end=end)
            self.notes.extend(note for note in self.sound.notes if note not in self.notes)
            return
        for _, samples in self._stream(do="waveform", rate=rate, start=start, end=end):
            assert samples is not None
            yield samples

    def remuxed(self) -> Iterator[bytes]:
        """The streams that browsers play, undecoded, as an MP4 file in blocks.

        Raises:
            SacmaError: the file has no such stream, or cannot be read; see ``open``.
        """
        for message, block in _ask(self.path, self.limits, {"do": "remux", "known": {}}):
            if "bytes" in message:
                assert block is not None
                yield block.tobytes()

    def _stream(self, **request: Any) -> Iterator[process.Answer]:
        known = {key: getattr(self, key) for key in ("seconds", "jumps", "has_audio", "has_video")}
        limits = replace(self.limits, patience=self.limits.stretched(self.limits.patience, self.seconds))
        for message, array in _ask(self.path, limits, {"known": known, **request}):
            if "done" in message:
                self.notes.extend(note for note in message["done"]["notes"] if note not in self.notes)
            else:
                yield message, array


def _ask(path: Path, limits: Limits, request: dict[str, Any]) -> Iterator[process.Answer]:
    try:
        yield from process.ask({"path": os.fsencode(os.path.abspath(path)).hex(), **request}, limits)
    except SacmaError as error:
        raise SacmaError(f"{path}: {error}") from error
