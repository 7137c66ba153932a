"""Descriptors without weights: log-mel, gradient and motion statistics, one vector per second.

They need no download and are the features of the embedded benchmark; on real clips they are a weak baseline.
What is left at the end of a clip is a step of its own from half a second on, and else belongs to the second
before it; a clip of any length gives at least one step. Silence and black frames give finite values.
"Deviation" is the standard deviation within the second.

Audio, 104 numbers (log-mel: 40 bands from 60 to 3800 Hz, window 32 ms, hop 12.5 ms):
    40 + 40  mean and deviation of each band
    3 + 3    centroid (as a fraction of the bands), crest (peak over mean) and loudness: mean and deviation
    1 + 1    onset strength (rise from frame to frame, averaged over the bands): mean and deviation
    8        its course: onset strength per second in each eighth of the second
    8        autocorrelation of the course over the two seconds around the step, at lags of 1/8 to 1 s

Video, 76 numbers (pictures averaged down to about 48 pixels along the shorter side; of the size of the
gradients the part beyond three times the median of the picture):
    16       histogram of the gradient direction
    12       |sum w e^(ika)| / sum w over gradients of size w and direction a, k = 1 to 12: how far the
             outline looks the same when turned by 1/k of a circle, whichever way it stands
    3 + 3    red, green, blue: mean and deviation over the picture
    6 + 6    size of the gradients, their centre (x, y) and their spread (xx, yy, xy): mean and deviation
    7 + 7    per second: movement of the centre in x and in y, its speed, its turning about its mean place,
             change of the spread and of the direction histogram, motion energy (change of brightness): mean
             and deviation
    8 + 8    course of the motion energy and its autocorrelation, as for the onsets
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.media.arrays import Frames, TimedFrame
from sacma.media.audio import LogMel
from sacma.media.backbones.base import Steps
from sacma.media.backbones.streams import batches

Array = NDArray[np.float32]
Seconds = NDArray[np.float64]
_T = TypeVar("_T", bound=Sized)

_EIGHTHS = 8
_DIRECTIONS = 16
_SYMMETRIES = 12
_SHORT_SIDE = 48
_BLOCK = 256
"""Frames worked on at once."""
_PIECE = 60
"""Seconds of a stream that are described at once, as if they were a clip."""


@dataclass(frozen=True)
class AudioDescriptors:
    """Log-mel and onset statistics of each second of sound."""

    name: str = "descriptors"
    version: str = "1"
    licence: str = "MIT"
    checksum: str = "none"
    width: int = 104
    step_seconds: float = 1.0
    rate: int = 8_000

    def encode(self, blocks: Iterable[Array]) -> Steps | None:
        """Describe sound of ``rate`` samples per second, a minute at a time; None where there is none."""
        pieces = _pieces(blocks, _PIECE * self.rate)
        return _joined(pieces, self.rate, lambda piece: self(piece, self.rate))

    def __call__(self, waveform: Array, rate: int) -> Steps:
        """Describe a waveform (S,), -1 to 1, of any rate; frequencies beyond half the rate count as silent.

        Raises:
            SacmaError: the waveform is not (S,) or not finite, or the rate is too low to hold any sound.
        """
        front = _front_end(rate)
        level = np.float32(8000 / rate)  # a frame has more samples to add up at a higher rate
        log_mel = front(waveform * level)  # (N, 40)
        middle = front.seconds(len(log_mel))
        steps = _steps(len(waveform) / rate)
        owner = np.minimum(middle.astype(np.int64), steps - 1)
        onset = np.zeros(len(log_mel), np.float32)
        onset[1:] = np.maximum(log_mel[1:] - log_mel[:-1], 0).mean(axis=1)
        mean, deviation = _per_second(np.hstack([log_mel, _timbre(log_mel), onset[:, None]]), owner, steps)
        course = _course(middle, onset, steps)
        return _assemble([mean, deviation, course, _autocorrelation(course)], steps)


@dataclass(frozen=True)
class VideoDescriptors:
    """Gradient, colour and motion statistics of each second of pictures."""

    name: str = "descriptors"
    version: str = "1"
    licence: str = "MIT"
    checksum: str = "none"
    width: int = 76
    step_seconds: float = 1.0
    rate: float = 12.0
    size: int = 2 * _SHORT_SIDE

    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        """Describe frames, a minute at a time; None where there are none."""
        return _joined(batches(frames, round(_PIECE * self.rate)), self.rate, self._piece)

    def _piece(self, frames: list[TimedFrame]) -> Steps:
        seconds = np.array([time for time, _ in frames])
        return self(np.stack([frame for _, frame in frames]), seconds - seconds[0])

    def __call__(self, frames: Frames, seconds: Seconds) -> Steps:
        """Describe frames (F, H, W, 3) shown at ``seconds`` (F,), ascending from about 0.

        A second without a frame repeats the second before it. The last frame counts as shown for as long as
        the others are on average.

        Raises:
            SacmaError: there are no frames, or frames and times do not fit together.
        """
        _check_frames(frames, seconds)
        interval = (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else 0.0
        steps = _steps(float(seconds[-1] + interval))
        owner = np.clip(seconds.astype(np.int64), 0, steps - 1)
        looks, change = _pictures(frames)
        moves = _moves(looks, change, seconds)
        mean, deviation = _per_second(np.hstack([looks, moves]), owner, steps)
        varying = _DIRECTIONS + _SYMMETRIES + 6  # what stands before it says little by its deviation
        course = _course(seconds, change, steps)
        return _assemble([mean, deviation[:, varying:], course, _autocorrelation(course)], steps)


@lru_cache(maxsize=8)
def _front_end(rate: int) -> LogMel:
    return LogMel(
        rate=rate,
        window_seconds=0.032,
        hop_seconds=0.0125,
        bands=40,
        low_hz=60.0,
        high_hz=3800.0,
        offset=0.01,
    )


def _pieces(blocks: Iterable[Array], length: int) -> Iterator[Array]:
    """A waveform in blocks, cut into pieces of ``length`` samples, the last one shorter."""
    held: list[Array] = []
    missing = length
    for block in blocks:
        while len(block) >= missing:
            yield np.concatenate([*held, block[:missing]])
            held, block, missing = [], block[missing:], length  # noqa: PLW2901
        held.append(block)
        missing -= len(block)
    if missing < length:
        yield np.concatenate(held)


def _joined(pieces: Iterable[_T], rate: float, describe: Callable[[_T], Steps]) -> Steps | None:
    """Steps of the pieces of a stream. A rest of less than half a second is not a step of its own."""
    values: list[Array] = []
    for piece in pieces:
        if not values or len(piece) >= rate / 2:
            values.append(describe(piece).values)
    return _assemble([np.concatenate(values)], sum(map(len, values))) if values else None


def _steps(duration: float) -> int:
    return max(1, int(duration + 0.5))


def _assemble(parts: list[Array], steps: int) -> Steps:
    return Steps(np.hstack(parts).astype(np.float32), np.arange(steps, dtype=np.float64))


def _timbre(log_mel: Array) -> Array:
    """(N, 3) centroid, crest and loudness of log-mel frames (N, 40)."""
    mel = np.exp(log_mel)
    place = np.linspace(0, 1, log_mel.shape[1], dtype=np.float32)
    loudness = log_mel.mean(axis=1)
    return np.stack([mel @ place / mel.sum(axis=1), log_mel.max(axis=1) - loudness, loudness], axis=1)


def _per_second(values: Array, owner: NDArray[np.int64], steps: int) -> tuple[Array, Array]:
    """Mean and deviation, (T, F) each, of frames (N, F) by the step that owns each; ``owner`` ascends."""
    bounds = np.searchsorted(owner, np.arange(steps + 1))
    mean = np.zeros((steps, values.shape[1]), np.float32)
    deviation = np.zeros_like(mean)
    for step in range(steps):
        own = values[bounds[step] : bounds[step + 1]]
        if len(own):
            mean[step], deviation[step] = own.mean(axis=0), own.std(axis=0)
        elif step:
            mean[step], deviation[step] = mean[step - 1], deviation[step - 1]
    return mean, deviation


def _course(seconds: Seconds, amounts: Array, steps: int) -> Array:
    """(T, 8) rate at which ``amounts`` arrive in each eighth of each second, as ln(1 + amount per second).

    An amount (N,) is what came in between the frame before and its own time; frames may come at any pace.
    """
    total = np.cumsum(amounts, dtype=np.float64)
    edges = np.arange(steps * _EIGHTHS + 1) / _EIGHTHS
    rate = np.diff(np.interp(edges, seconds, total)) * _EIGHTHS
    return np.log1p(rate).astype(np.float32).reshape(steps, _EIGHTHS)


def _autocorrelation(course: Array) -> Array:
    """(T, 8) autocorrelation of a course (T, 8) over the two seconds around each step, lags 1/8 to 1 s."""
    half = _EIGHTHS // 2
    flat = np.pad(course.reshape(-1), half, mode="reflect")  # the ends have but one second beside them
    windows = np.lib.stride_tricks.sliding_window_view(flat, 2 * _EIGHTHS)[::_EIGHTHS]  # (T, 16)
    centred = windows - windows.mean(axis=1, keepdims=True)
    energy = (centred**2).sum(axis=1) + 1e-6
    lags = range(1, _EIGHTHS + 1)
    return np.stack([(centred[:, lag:] * centred[:, :-lag]).sum(axis=1) / energy for lag in lags], axis=1)


def _check_frames(frames: Frames, seconds: Seconds) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size or frames.dtype != np.uint8:
        raise SacmaError(
            f"frames of shape {frames.shape} and {frames.dtype}, expected (F, H, W, 3) bytes, F > 0"
        )
    if seconds.shape != frames.shape[:1]:
        raise SacmaError(f"{len(frames)} frames but times of shape {seconds.shape}; give each frame its time")
    if not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
        raise SacmaError("times of frames must be finite and ascend; sort the frames by their time")


def _pictures(frames: Frames) -> tuple[Array, Array]:
    """Appearance (F, 40) of frames, and change of brightness (F,) from the frame before, first 0."""
    looks, change, before = [], [], None
    for start in range(0, len(frames), _BLOCK):
        small = _shrunk(frames[start : start + _BLOCK])  # (F, H, W, 3), 0 to 1
        grey = (small[..., 0] + small[..., 1] + small[..., 2]) / np.float32(3)
        colour = _colour(small)
        outline, place = _outline(grey)
        looks.append(np.hstack([outline, colour, place]))
        previous = np.concatenate([grey[:1] if before is None else before, grey[:-1]])
        change.append(np.abs(grey - previous).mean(axis=(1, 2)))
        before = grey[-1:]
    return np.concatenate(looks), np.concatenate(change)


def _shrunk(frames: Frames) -> Array:
    """Frames averaged over square blocks of pixels, as fractions of full brightness."""
    count, height, width, _ = frames.shape
    block = max(1, min(height, width) // _SHORT_SIDE)
    rows, columns = height // block, width // block
    if block == 1:
        return frames.astype(np.float32) / np.float32(255)
    # Sums of bytes are exact in any order, and whole lines are faster to add than blocks.
    lines = frames[:, : rows * block, : columns * block].reshape(count, rows, block, columns * block * 3)
    lines = lines.sum(axis=2, dtype=np.float32).reshape(count, rows, columns, block, 3)
    return lines.sum(axis=3) / np.float32(block * block) / np.float32(255)


def _colour(pictures: Array) -> Array:
    """(F, 6) mean and deviation of red, green and blue over pictures (F, H, W, 3)."""
    # Pixels first: NumPy then adds long rows in place of many threes.
    by_pixel = np.ascontiguousarray(pictures.reshape(len(pictures), -1, 3).swapaxes(0, 1))
    return np.hstack([by_pixel.mean(axis=0), by_pixel.std(axis=0)])


def _outline(grey: Array) -> tuple[Array, Array]:
    """Gradients of pictures (F, H, W) in numbers: (F, 28) directions; (F, 6) size, place and spread."""
    across_down = np.zeros(grey.shape, np.complex64)
    across_down.real[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    across_down.imag[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    gradient = across_down.reshape(len(grey), -1)  # (F, P)
    size = np.abs(gradient)
    weight = np.maximum(size - 3 * np.median(size, axis=1, keepdims=True), 0)
    total = weight.sum(axis=1, keepdims=True)
    share = weight / (total + 1e-6)  # (F, P), mostly zero
    edges = np.flatnonzero(share)
    direction = gradient.reshape(-1)[edges]  # (E,)
    direction /= np.maximum(size.reshape(-1)[edges], 1e-6)
    directions = np.hstack(
        [_direction_histogram(direction, share, edges), _symmetries(direction, share, edges)]
    )
    height, width = grey.shape[1:]
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].reshape(2, -1).astype(np.float32)
    centre_x, centre_y = share @ x, share @ y
    from_x, from_y = x - centre_x[:, None], y - centre_y[:, None]
    share_x, share_y = share * from_x, share * from_y
    spread = [(a * b).sum(axis=1) for a, b in ((share_x, from_x), (share_y, from_y), (share_x, from_y))]
    strength = np.log1p(total[:, 0])
    return directions, np.stack([strength, centre_x, centre_y, *(20 * s for s in spread)], axis=1)


def _direction_histogram(direction: NDArray[np.complex64], share: Array, edges: NDArray[np.intp]) -> Array:
    """(F, 16) sum of ``share`` (F, P) in each sector; ``direction`` (E,) is that of its entries ``edges``."""
    turns = np.angle(direction) / (2 * np.pi) + 0.5
    bins = np.minimum((turns * _DIRECTIONS).astype(np.int64), _DIRECTIONS - 1)
    place = bins + _DIRECTIONS * (edges // share.shape[1])
    counts = np.bincount(place, share.reshape(-1)[edges], minlength=_DIRECTIONS * len(share))
    return counts.reshape(len(share), _DIRECTIONS).astype(np.float32)


def _symmetries(direction: NDArray[np.complex64], share: Array, edges: NDArray[np.intp]) -> Array:
    """(F, 12) |sum of share times direction^k|, k = 1 to 12; arguments as ``_direction_histogram``."""
    own = share.reshape(-1)[edges]
    turned = np.zeros(share.shape, np.complex64)  # summed with its zeros: the order of a sum shows in it
    power = np.ones_like(direction)
    found = []
    for _ in range(_SYMMETRIES):
        power = power * direction
        turned.reshape(-1)[edges] = power * own
        found.append(np.abs(turned.sum(axis=1)))
    return np.stack(found, axis=1).astype(np.float32)


def _moves(looks: Array, change: Array, seconds: Seconds) -> Array:
    """Motion (F, 7): change of appearance (F, 40) since the frame before, per second, first 0."""
    interval = np.diff(seconds)[:, None]
    interval = np.where(interval > 0, interval, 1 / 25).astype(
        np.float32
    )  # two frames at one time: an odd file
    per_second = np.diff(looks, axis=0) / interval
    velocity = per_second[:, -5:-3]
    arm = looks[1:, -5:-3] - looks[:, -5:-3].mean(axis=0)
    turning = np.abs(arm[:, 0] * velocity[:, 1] - arm[:, 1] * velocity[:, 0])
    moves = np.zeros((len(looks), 7), np.float32)
    moves[1:, 0:2] = np.abs(velocity)
    moves[1:, 2] = np.hypot(velocity[:, 0], velocity[:, 1])
    moves[1:, 3] = 10 * turning
    moves[1:, 4] = np.abs(per_second[:, -3:-1]).sum(axis=1)
    moves[1:, 5] = np.abs(per_second[:, :_DIRECTIONS]).sum(axis=1)
    moves[1:, 6] = 10 * change[1:] / interval[:, 0]
    return moves
