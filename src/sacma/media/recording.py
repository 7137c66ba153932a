"""A clip that is in memory already: arrays of pictures and samples, in place of a file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sacma.errors import SacmaError, printable
from sacma.media.arrays import Frame, Waveform
from sacma.media.containers import Limits

_BLOCK = 1 << 16
"""Samples that are resampled at a time."""
_CHANNELS = 64
_NEAR = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Pictures, sound, or both as arrays; they begin together. It can be asked about as a file can.

    Args:
        frames: (F, H, W, 3) red, green, blue, 0 to 255; None without pictures.
        frame_rate: frames per second.
        samples: (S,) or (S, C) for C channels; floats from -1 to 1, or 16-bit integers; None without sound.
        sample_rate: samples per second.
        name: of the clip, in answers and messages.

    Raises:
        SacmaError: neither pictures nor sound, a rate is missing, or an array has another shape or type.

    Example:
        >>> import numpy as np, sacma
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
        >>> sacma.Recording(samples=tone, sample_rate=16_000, name="tone").seconds
        2.0
    """

    frames: Any = None
    frame_rate: float | None = None
    samples: Any = None
    sample_rate: float | None = None
    name: str = "recording"

    def __post_init__(self) -> None:
        if self.frames is None and self.samples is None:
            raise SacmaError(f"{self.name}: neither frames nor samples; give one of them")
        if self.frames is not None:
            object.__setattr__(self, "frames", self._pictures(self.frames))
            self._check_rate("frame_rate", self.frame_rate)
        if self.samples is not None:
            object.__setattr__(self, "samples", self._sound(self.samples))
            self._check_rate("sample_rate", self.sample_rate)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        pictures = "" if self.frames is None else f", frames of shape {self.frames.shape}"
        sound = "" if self.samples is None else f", samples of shape {self.samples.shape}"
        return f"Recording({printable(self.name)}, {self.seconds:g} s{pictures}{sound})"

    @property
    def seconds(self) -> float:
        """The longer one of pictures and sound."""
        pictures = 0.0 if self.frames is None else len(self.frames) / (self.frame_rate or 1.0)
        sound = 0.0 if self.samples is None else len(self.samples) / (self.sample_rate or 1.0)
        return max(pictures, sound)

    def _check_rate(self, what: str, rate: float | None) -> None:
        if rate is None or not 0 < rate < math.inf or (what == "sample_rate" and rate != round(rate)):
            wanted = "a whole number" if what == "sample_rate" else "a number"
            raise SacmaError(f"{self.name}: {what} is {rate}; it must be {wanted} above 0")

    def _pictures(self, given: ArrayLike) -> NDArray[np.uint8]:
        frames = np.asarray(given)
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise SacmaError(
                f"{self.name}: frames of shape {frames.shape}, expected (F, H, W, 3), colours last"
            )
        if frames.dtype != np.uint8:
            raise SacmaError(f"{self.name}: frames of {frames.dtype}, expected uint8, 0 to 255")
        return frames

    def _sound(self, given: ArrayLike) -> NDArray[Any]:
        samples = np.asarray(given)
        if samples.ndim not in (1, 2) or 0 in samples.shape or samples.shape[1:] > (_CHANNELS,):
            raise SacmaError(
                f"{self.name}: samples of shape {samples.shape}, expected (S,) or (S, C) with at most "
                f"{_CHANNELS} channels last; turn (C, S) round with samples.T"
            )
        if samples.dtype != np.int16 and not np.issubdtype(samples.dtype, np.floating):
            raise SacmaError(
                f"{self.name}: samples of {samples.dtype}, expected floats from -1 to 1, or int16"
            )
        if not np.isfinite(samples).all():
            raise SacmaError(f"{self.name}: samples that are not finite; decode the sound again")
        return samples


class Played:
    """A recording as it is decoded: the interface of ``sacma.media.decode.Clip``.

    Args:
        recording: the arrays.
        limits: what is refused.

    Raises:
        SacmaError: its frames are larger than ``limits`` allow.
    """

    def __init__(self, recording: Recording, *, limits: Limits) -> None:
        self.recording, self.limits = recording, limits
        self.notes: list[str] = []
        frames = recording.frames
        if frames is not None and frames.shape[1] * frames.shape[2] > limits.pixels:
            raise SacmaError(
                f"{recording}: frames above the limit of {limits.pixels:,} pixels; scale them down"
            )

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.recording.seconds

    @property
    def has_audio(self) -> bool:
        """There is sound."""
        return self.recording.samples is not None

    @property
    def has_video(self) -> bool:
        """There are pictures."""
        return self.recording.frames is not None

    def frames(
        self, *, rate: float, size: int | None = None, start: float | None = None, end: float | None = None
    ) -> Iterator[tuple[float, Frame]]:
        """Frames on a regular grid, each with its time, see ``Clip.frames``."""
        first, last = self._part(start, end)
        frames, given = self.recording.frames, self.recording.frame_rate
        if frames is None or given is None or min(last, len(frames) / given) <= first:
            return
        until = min(last, len(frames) / given)
        number, made = -1, None
        for due in range(max(1, math.ceil((until - first) * rate - _NEAR))):
            here = min(len(frames) - 1, int((first + due / rate) * given + _NEAR))
            if made is None or here != number:
                number, made = here, _scaled(frames[here], size)
            yield due / rate, made

    def waveform(
        self, *, rate: int, start: float | None = None, end: float | None = None
    ) -> Iterator[Waveform]:
        """Blocks of sound (S,), channels averaged, see ``Clip.waveform``."""
        first, last = self._part(start, end)
        samples, given = self.recording.samples, self.recording.sample_rate
        if samples is None or given is None:
            return
        kept = samples[round(first * given) : round(last * given)]
        blocks = (_mono(kept[place : place + _BLOCK]) for place in range(0, len(kept), _BLOCK))
        yield from blocks if given == rate else _resampled(blocks, round(given), rate)

    def _part(self, start: float | None, end: float | None) -> tuple[float, float]:
        """First and last second of a part."""
        first, last = start or 0.0, math.inf if end is None else end
        if not 0 <= first < math.inf or not first < last:
            raise SacmaError(
                f"{self.recording}: from {start} s to {end} s is no part of a clip; start before the end"
            )
        if first >= self.seconds:
            raise SacmaError(
                f"{self.recording}: {self.seconds:.6g} s long, so nothing is left from {first:g} s on"
            )
        last = min(last, self.seconds)
        if last - first > self.limits.seconds:
            raise SacmaError(
                f"{self.recording}: {last - first:.6g} s, the limit is {self.limits.seconds:g} s; choose a "
                "part by start and end, or raise the limit"
            )
        return first, last


def _mono(samples: NDArray[Any]) -> Waveform:
    """(S,) float32 of (S,) or (S, C); 16-bit integers are brought to -1 to 1."""
    scale = 1 / 32_768 if samples.dtype == np.int16 else 1.0
    values = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float64)
    return np.asarray(values * scale, np.float32)


def _resampled(blocks: Iterator[Waveform], given: int, wanted: int) -> Iterator[Waveform]:
    """Sound at another rate, by FFmpeg's resampler, as clips of files get it."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block)[None], format="flt", layout="mono")
        frame.sample_rate = given
        yield from (made.to_ndarray().reshape(-1) for made in resampler.resample(frame))
    yield from (made.to_ndarray().reshape(-1) for made in resampler.resample(None))


def _scaled(frame: NDArray[np.uint8], size: int | None) -> Frame:
    """A frame whose shorter side has at most ``size`` pixels."""
    height, width = frame.shape[:2]
    if size is None or min(width, height) <= size:
        return np.ascontiguousarray(frame)
    import av

    scale = size / min(width, height)
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    made = picture.to_ndarray(
        format="rgb24",
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        interpolation="AREA",
    )
    return np.ascontiguousarray(made)
