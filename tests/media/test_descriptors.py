"""The log-mel front end against a literal reference; the descriptors on simple sounds and pictures."""

from __future__ import annotations

import cmath
import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.media import audio
from sacma.media.audio import VGGISH, YAMNET, LogMel
from sacma.media.backbones import descriptors
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors

RATE = 8000
ONSETS = slice(88, 96)  # course of the onsets within the audio descriptors
BEAT = slice(96, 104)  # its autocorrelation
SYMMETRY = slice(16, 28)  # k = 1 to 12
MOTION = slice(60, 68)  # course of the motion energy


# --- Log-mel ------------------------------------------------------------------------------------------


def literal_log_mel(front: LogMel, waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Loops and the formulas of the docstring, nothing else."""
    size = 1
    while size < front.window:
        size *= 2
    size = front.fft or size

    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    step = (mel(front.high_hz) - mel(front.low_hz)) / (front.bands + 1)
    corners = [mel(front.low_hz) + step * i for i in range(front.bands + 2)]
    rows = []
    for start in range(0, len(waveform) - front.window + 1, front.hop):
        frame = [
            float(waveform[start + n]) * (0.5 - 0.5 * math.cos(2 * math.pi * n / front.window))
            for n in range(front.window)
        ]
        row = [0.0] * front.bands
        for k in range(1, size // 2 + 1):
            value = abs(sum(x * cmath.exp(-2j * math.pi * k * n / size) for n, x in enumerate(frame)))
            place = mel(k * front.rate / size)
            for band in range(front.bands):
                low, middle, high = corners[band : band + 3]
                weight = (
                    (place - low) / (middle - low) if place < middle else (high - place) / (high - middle)
                )
                row[band] += max(0.0, weight) * (value**2 if front.power else value)
        rows.append([math.log(value + front.offset) for value in row])
    return np.array(rows)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("fft", [None, 200])
def test_log_mel_equals_the_literal_reference(power: bool, fft: int | None) -> None:
    front = LogMel(
        rate=4000,
        window_seconds=0.025,
        hop_seconds=0.01,
        bands=12,
        low_hz=125,
        high_hz=1900,
        offset=0.01,
        power=power,
        fft=fft,
    )
    waveform = np.random.RandomState(0).uniform(-1, 1, 307).astype(np.float32)
    expected = literal_log_mel(front, waveform)
    assert expected.shape == (6, 12)
    np.testing.assert_allclose(front(waveform), expected, rtol=1e-4, atol=1e-4)


def test_the_frames_of_vggish_and_yamnet() -> None:
    second = np.random.RandomState(1).uniform(-1, 1, 16_000).astype(np.float32)
    assert (VGGISH.window, VGGISH.hop, VGGISH.fft_length) == (400, 160, 512)
    assert VGGISH(second).shape == (98, 64)
    assert VGGISH(second[: 400 + 95 * 160]).shape == (96, 64)  # a patch takes 15 600 samples
    np.testing.assert_allclose(
        np.exp(VGGISH(second)) - 0.01, np.exp(YAMNET(second)) - 0.001, rtol=1e-3, atol=1e-4
    )


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    for hertz in (200.0, 1000.0, 5000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000).astype(np.float32)
        loudest = int(VGGISH(tone).mean(axis=0).argmax())
        mel = audio.hertz_to_mel(np.array([125.0, hertz, 7500.0]))
        assert loudest == pytest.approx((mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1, abs=1.0)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = np.random.RandomState(2).uniform(-1, 1, 20_000).astype(np.float32)
    whole = VGGISH(waveform)
    monkeypatch.setattr(audio, "_BLOCK", 7)
    np.testing.assert_allclose(VGGISH(waveform), whole, rtol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_less_than_a_frame_of_sound_is_one_frame(samples: int) -> None:
    front = VGGISH(np.full(samples, 0.5, np.float32))
    assert front.shape == (1, 64)
    assert np.isfinite(front).all()


@pytest.mark.parametrize(
    "change", [{"rate": 0}, {"offset": 0.0}, {"low_hz": 8000.0}, {"window_seconds": 1e-5}, {"fft": 256}]
)
def test_impossible_parameters_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(SacmaError):
        dataclasses.replace(VGGISH, **change)


@pytest.mark.parametrize("waveform", [np.zeros((100, 2)), np.array([0.0, np.nan])])
def test_a_waveform_that_is_none_is_refused(waveform: NDArray[np.float64]) -> None:
    with pytest.raises(SacmaError, match="waveform"):
        VGGISH(waveform.astype(np.float32))


# --- Sound --------------------------------------------------------------------------------------------


def clicks(times: list[float], seconds: float = 4.0) -> NDArray[np.float32]:
    waveform = np.zeros(round(seconds * RATE), np.float32)
    for time in times:
        waveform[round(time * RATE) :][:200] = np.random.RandomState(0).uniform(-0.5, 0.5, 200)
    return waveform


def test_onsets_show_in_their_eighth_of_the_second() -> None:
    values = AudioDescriptors()(clicks([0.32, 2.8]), RATE).values
    assert values[0, ONSETS].argmax() == 2
    assert values[2, ONSETS].argmax() == 6
    assert values[2, ONSETS].max() > 10 * values[1, ONSETS].max()


def test_a_beat_shows_at_its_lag() -> None:
    for period, lag in ((0.5, 4), (0.75, 6)):
        beats = clicks(list(np.arange(0.06, 7.8, period)), 8.0)
        values = AudioDescriptors()(beats, RATE).values
        assert values[3, BEAT].argmax() + 1 == lag


@pytest.mark.parametrize("rate", [4000, 16_000, 44_100])
def test_a_sound_reads_alike_at_any_rate(rate: int) -> None:
    def bands(rate: int) -> NDArray[np.float32]:
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
        return AudioDescriptors()(tone.astype(np.float32), rate).values[0, :40]

    assert bands(rate).argmax() == 8  # 440 Hz is 8.3 of 41 parts of the mels from 60 to 3800 Hz
    assert bands(rate)[8] == pytest.approx(bands(8000)[8], abs=0.5)


# --- Pictures -----------------------------------------------------------------------------------------


def polygon(corners: int, turn: float, size: int = 96) -> NDArray[np.uint8]:
    """(H, W, 3) a white polygon on black."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    normals = turn + 2 * np.pi * np.arange(corners) / corners
    far = np.max([x * np.cos(a) + y * np.sin(a) for a in normals], axis=0)
    return np.repeat(np.clip(128 + (0.4 - far) * size * 127, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def film(frames: list[NDArray[np.uint8]], fps: float = 8.0) -> NDArray[np.float32]:
    return VideoDescriptors()(np.stack(frames), np.arange(len(frames)) / fps).values


@pytest.mark.parametrize("corners", [3, 4, 5])
def test_the_symmetry_of_an_outline_shows_however_it_is_turned(corners: int) -> None:
    for turn in (0.0, 0.3, 1.1):
        values = film([polygon(corners, turn)] * 8)[0, SYMMETRY]
        assert values[:7].argmax() + 1 == corners


def test_gradients_show_in_their_direction() -> None:
    ramp = np.zeros((48, 48, 3), np.uint8)
    ramp[:, 24:] = 200  # brighter to the right: direction 0, the ninth of sixteen bins from -pi on
    assert film([ramp])[0, :16].argmax() == 8
    assert film([np.swapaxes(ramp, 0, 1)])[0, :16].argmax() == 12


def test_motion_shows_in_its_eighth_of_the_second() -> None:
    frames = [np.zeros((48, 48, 3), np.uint8) for _ in range(24)]
    for frame in frames[12:]:
        frame[10:20, 10:20] = 255  # appears between 11/8 and 12/8 s
    values = film(frames)
    assert values[1, MOTION].argmax() == 3
    assert values[0, MOTION].max() == 0


def test_a_large_picture_reads_like_a_small_one() -> None:
    small, large = (film([polygon(3, 0.2, size)] * 8)[0, SYMMETRY] for size in (48, 480))
    np.testing.assert_allclose(small, large, atol=0.1)


def test_a_second_without_frames_repeats_the_one_before() -> None:
    frames = np.stack([polygon(4, 0.1 * n, 48) for n in range(16)])
    seconds = np.concatenate([np.arange(8) / 8, 3 + np.arange(8) / 8])
    values = VideoDescriptors()(frames, seconds).values
    assert len(values) == 4
    np.testing.assert_array_equal(values[1, :47], values[0, :47])
    assert not np.array_equal(values[3, :47], values[0, :47])


def test_blocks_of_frames_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.RandomState(0).randint(0, 256, (40, 48, 48, 3)).astype(np.uint8)
    seconds = np.arange(40) / 12
    whole = VideoDescriptors()(frames, seconds).values
    monkeypatch.setattr(descriptors, "_BLOCK", 7)
    np.testing.assert_allclose(VideoDescriptors()(frames, seconds).values, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "seconds"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0)),
        (np.zeros((2, 8, 8), np.uint8), np.arange(2.0)),
        (np.zeros((2, 8, 8, 3), np.float32), np.arange(2.0)),
        (np.zeros((2, 8, 8, 3), np.uint8), np.arange(3.0)),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([1.0, 0.0])),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([0.0, np.inf])),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames: NDArray[np.uint8], seconds: NDArray[np.float64]) -> None:
    with pytest.raises(SacmaError, match="frames"):
        VideoDescriptors()(frames, seconds)


# --- Both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("duration", "steps"), [(0.1, 1), (0.9, 1), (1.4, 1), (1.5, 2), (2.0, 2), (7.6, 8)])
def test_both_take_the_same_steps(duration: float, steps: int) -> None:
    heard = AudioDescriptors()(np.zeros(round(duration * RATE), np.float32), RATE)
    frames = max(1, round(duration * 10))
    seen = VideoDescriptors()(np.zeros((frames, 16, 16, 3), np.uint8), np.arange(frames) / 10)
    assert len(heard.values) == len(seen.values) == steps
    np.testing.assert_array_equal(heard.seconds, np.arange(steps))
    np.testing.assert_array_equal(seen.seconds, np.arange(steps))


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(0, 20_000),
    rate=st.integers(100, 48_000),
    frames=st.integers(1, 30),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    fps=st.floats(0.5, 60),
    fill=st.sampled_from(["black", "white", "noise"]),
)
def test_anything_gives_finite_values_of_the_promised_width(
    samples: int, rate: int, frames: int, size: tuple[int, int], fps: float, fill: str
) -> None:
    random = np.random.RandomState(0)
    level = {"black": 0.0, "white": 1.0, "noise": random.uniform(-1, 1, samples)}[fill]
    heard = AudioDescriptors()(np.full(samples, level, np.float32), rate)
    shape = (frames, *size, 3)
    pictures = {
        "black": np.zeros(shape),
        "white": np.full(shape, 255),
        "noise": random.randint(0, 256, shape),
    }
    seen = VideoDescriptors()(pictures[fill].astype(np.uint8), np.arange(frames) / fps)
    for steps, extractor in ((heard, AudioDescriptors()), (seen, VideoDescriptors())):
        assert steps.values.shape == (len(steps.seconds), extractor.width)
        assert steps.values.dtype == np.float32
        assert np.isfinite(steps.values).all()
        assert len(steps.values) >= 1


def test_they_say_what_they_are() -> None:
    for extractor in (AudioDescriptors(), VideoDescriptors()):
        assert (extractor.name, extractor.licence, extractor.checksum) == ("descriptors", "MIT", "none")
        assert extractor.step_seconds == 1.0
