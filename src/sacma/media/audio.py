"""Log-mel spectrograms in NumPy: the front end of VGGish, of YAMNet and of our own descriptors.

    frames    ``window_seconds`` long, one every ``hop_seconds``, nothing padded at the ends, times a periodic
              Hann window 0.5 - 0.5 cos(2 pi n / N)
    spectrum  |rfft| of the frame padded with zeros to ``fft`` samples; squared where ``power`` is set
    mel       1127 ln(1 + f / 700) of a frequency f in hertz (the HTK formula)
    bands     triangles, straight in mel, with corners at ``bands`` + 2 points equally far apart in mel from
              ``low_hz`` to ``high_hz``; height 1, no scaling by area
    output    ln(spectrum . triangles + ``offset``)

This is what the reference implementations of VGGish and YAMNet (TensorFlow models, ``audioset``) compute:
both take magnitudes, not powers, and differ in the offset alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.media.arrays import Waveform

Spectrogram = NDArray[np.float32]

_BLOCK = 4096
"""Frames worked on at once: an hour of sound then needs some 20 MB beside its result."""


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Parameters of a log-mel spectrogram; call it with a waveform of the same rate.

    Attributes:
        rate: samples per second of the waveforms.
        window_seconds: length of a frame.
        hop_seconds: from the start of one frame to the start of the next.
        bands: number of mel bands, the width of the output.
        low_hz: lowest corner of the first band.
        high_hz: highest corner of the last band; bands beyond half the rate stay empty.
        offset: added before the logarithm, so that silence stays finite.
        power: squared magnitudes instead of magnitudes.
        fft: samples of the transform; None takes the next power of two from the window's length.
    """

    rate: int
    window_seconds: float
    hop_seconds: float
    bands: int
    low_hz: float
    high_hz: float
    offset: float
    power: bool = False
    fft: int | None = None

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.bands <= 0 or self.offset <= 0:
            raise SacmaError(f"{self}: rate, bands and offset must be above zero")
        if not 0 <= self.low_hz < self.high_hz:
            raise SacmaError(f"{self}: low_hz must lie below high_hz, and neither below zero")
        if self.window < 2 or self.hop < 1:
            raise SacmaError(
                f"{self}: at {self.rate} samples a second the window or the hop is less than a sample"
            )
        if self.fft is not None and self.fft < self.window:
            raise SacmaError(f"{self}: fft must be at least the window's {self.window} samples")

    @property
    def window(self) -> int:
        """Samples in a frame."""
        return round(self.window_seconds * self.rate)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_seconds * self.rate)

    @property
    def fft_length(self) -> int:
        return self.fft if self.fft is not None else 1 << (self.window - 1).bit_length()

    def __call__(self, waveform: Waveform) -> Spectrogram:
        """The log-mel spectrogram, (T, bands) float32, T = 1 + (S - window) // hop.

        Args:
            waveform: (S,) samples, -1 to 1; one shorter than a frame is padded with zeros to one frame.

        Raises:
            SacmaError: the waveform has more than one dimension, or values that are not finite.
        """
        samples = np.asarray(waveform, dtype=np.float32)
        if samples.ndim != 1:
            raise SacmaError(
                f"a waveform of shape {samples.shape}, expected (S,); mix the channels into one first"
            )
        if not np.isfinite(samples).all():
            raise SacmaError("a waveform with values that are not finite; decode the sound again")
        if len(samples) < self.window:
            samples = np.pad(samples, (0, self.window - len(samples)))
        frames = sliding_window_view(samples, self.window)[:: self.hop]  # (T, window), a view
        blocks = [self._log_mel(frames[start : start + _BLOCK]) for start in range(0, len(frames), _BLOCK)]
        return np.concatenate(blocks)

    def seconds(self, frames: int) -> NDArray[np.float64]:
        """(T,) middle of each of the first ``frames`` frames, in seconds."""
        return (np.arange(frames) * self.hop + self.window / 2) / self.rate

    def triangles(self) -> NDArray[np.float32]:
        """(fft_length // 2 + 1, bands) weight of each frequency in each band."""
        return _triangles(self.rate, self.fft_length, self.bands, self.low_hz, self.high_hz)

    def _log_mel(self, frames: NDArray[np.float32]) -> Spectrogram:
        spectrum = np.abs(np.fft.rfft(frames * _hann(self.window), n=self.fft_length))  # (T, fft / 2 + 1)
        if self.power:
            spectrum = spectrum**2
        mel = spectrum.astype(np.float32) @ self.triangles()  # (T, bands)
        return np.log(mel + np.float32(self.offset))


VGGISH = LogMel(
    rate=16_000, window_seconds=0.025, hop_seconds=0.01, bands=64, low_hz=125.0, high_hz=7500.0, offset=0.01
)
"""VGGish: patches of 96 frames (0.96 s) of this are its inputs."""

YAMNET = LogMel(
    rate=16_000, window_seconds=0.025, hop_seconds=0.01, bands=64, low_hz=125.0, high_hz=7500.0, offset=0.001
)
"""YAMNet: as VGGish, with a smaller offset; patches of 96 frames, 48 frames apart."""


def log_filter_bank(waveform: Waveform, *, rate: int, bands: int = 257, fft: int = 1024) -> Spectrogram:
    """Log energies in mel bands, (T, bands) float32, as ``logfbank`` of python_speech_features gives them.

    SeLaVi's sound goes through it. Each sample less 0.97 times the one before; frames of 20 ms every 10 ms,
    no window, the last filled up with zeros; |rfft|^2 / ``fft``; triangles between whole bins of the
    transform, whose corners are equally far apart in mel from 0 to half the rate; the logarithm, with the
    smallest step of a double in place of zero. Low bands that fall between two bins are always empty.

    Args:
        waveform: (S,) samples, -32768 to 32767.
        rate: samples per second.
        bands: mel bands.
        fft: samples of the transform.
    """
    samples = np.asarray(waveform, dtype=np.float64)
    samples = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    window, hop = round(0.02 * rate), round(0.01 * rate)
    count = 1 + max(0, -(-(len(samples) - window) // hop))
    samples = np.pad(samples, (0, max(0, (count - 1) * hop + window - len(samples))))
    frames = sliding_window_view(samples, window)[::hop][:count]
    power = np.abs(np.fft.rfft(frames, n=fft)) ** 2 / fft  # (T, fft / 2 + 1)
    energy = power @ _whole_bin_triangles(rate, fft, bands)
    return np.log(np.where(energy == 0, np.finfo(float).eps, energy)).astype(np.float32)


@lru_cache(maxsize=4)
def _whole_bin_triangles(rate: int, fft: int, bands: int) -> NDArray[np.float64]:
    """(fft / 2 + 1, bands)."""
    mel = np.linspace(0.0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    corners = np.floor((fft + 1) * 700 * (10 ** (mel / 2595) - 1) / rate)
    bins = np.arange(fft // 2 + 1)[:, None]  # (fft / 2 + 1, 1)
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    with np.errstate(divide="ignore", invalid="ignore"):  # a side without any bin is not looked at
        rising = np.where((bins >= lower) & (bins < centre), (bins - lower) / (centre - lower), 0)
        falling = np.where((bins >= centre) & (bins < upper), (upper - bins) / (upper - centre), 0)
    return np.asarray(rising + falling)


def hertz_to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """1127 ln(1 + f / 700)."""
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


@lru_cache(maxsize=32)
def _hann(length: int) -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache(maxsize=32)
def _triangles(rate: int, fft: int, bands: int, low: float, high: float) -> NDArray[np.float32]:
    bins = hertz_to_mel(np.linspace(0.0, rate / 2, fft // 2 + 1))[:, None]  # (fft / 2 + 1, 1)
    first, last = hertz_to_mel(np.array([low, high]))
    corners = np.linspace(first, last, bands + 2)
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]  # (bands,) each
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
