"""Pictures and sound of AV-Shapes show the words of their class."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sacma.datasets import avshapes
from sacma.datasets.avshapes.definition import (
    CLASSES,
    RATE,
    TRAIN,
    clip_seed,
)
from sacma.datasets.avshapes.render import render_clip
from sacma.errors import SacmaError
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors
from sacma.text.avshapes_words import MOTIONS, SHAPES, TIMBRES

GOLDEN = ("1", 58, 38_667, 76.797, 27.85, 0.09355)  # frames, samples, mean and deviation of one frame, level


@pytest.mark.parametrize("name", CLASSES[::10])
def test_a_clip_has_pictures_and_sound_of_the_same_length(name: str) -> None:
    frames, fps, waveform, rate = render_clip(name, 7)
    assert (frames.dtype, frames.shape[1:], waveform.dtype) == (np.uint8, (48, 48, 3), np.float32)
    assert len(frames) / fps == pytest.approx(len(waveform) / rate, abs=1 / rate)
    assert 2 <= len(frames) / fps <= 8
    assert 0.1 < np.abs(waveform).max() <= 1


def test_a_clip_is_the_same_every_time_and_another_for_another_seed() -> None:
    first, again, other = (render_clip(TRAIN[0], seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[2], again[2])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


def test_the_pixels_and_samples_of_this_version() -> None:
    """Values of version 1. Where this fails, the benchmark has changed and needs another VERSION."""
    name = "star circling buzzing paired together"
    frames, _, waveform, _ = render_clip(name, clip_seed(name, 3))
    assert (avshapes.VERSION, len(frames), len(waveform)) == GOLDEN[:3]
    assert frames[20].astype(float).mean() == pytest.approx(GOLDEN[3], abs=0.02)
    assert frames[20].astype(float).std() == pytest.approx(GOLDEN[4], abs=0.02)
    assert float(np.sqrt((waveform**2).mean())) == pytest.approx(GOLDEN[5], rel=1e-3)


def test_a_larger_clip_shows_the_same_scene() -> None:
    name = "square circling chirping galloping apart"
    small = render_clip(name, 3)[0].astype(float)
    large = render_clip(name, 3, size=192)[0].astype(float)
    averaged = large.reshape(len(large), 48, 4, 48, 4, 3).mean(axis=(2, 4))
    assert np.abs(averaged - small).mean() < 10
    smooth = render_clip(name, 3, fps=24)[0].astype(float)
    assert len(smooth) == 2 * len(small)
    assert np.abs(smooth[::2] - small).mean() < 10


def test_every_shape_looks_different_and_has_about_the_same_area() -> None:
    pictures, areas = [], []
    for shape in SHAPES:
        frame = render_clip(f"{shape} bouncing humming steady apart", 1, size=96)[0][0].astype(float)
        background = np.median(frame, axis=(0, 1))
        inside = np.abs(frame - background).mean(axis=2) > 40
        pictures.append(inside)
        areas.append(inside.mean())
    assert max(areas) < 1.4 * min(areas)
    for one, other in itertools.combinations(pictures, 2):
        assert (one ^ other).sum() > 0.15 * one.sum()


def centre_path(motion: str) -> np.ndarray:
    """(F, 3) place of the shape and its area, in each frame."""
    frames = render_clip(f"square {motion} humming steady together", 2, size=96)[0].astype(float)
    inside = np.abs(frames - np.median(frames, axis=(0, 1, 2))).mean(axis=3) > 40
    area = inside.sum(axis=(1, 2))
    y, x = np.mgrid[:96, :96]
    return np.stack([(inside * x).sum((1, 2)) / area, (inside * y).sum((1, 2)) / area, area], axis=1)


def test_every_motion_moves_as_its_word_says() -> None:
    spread = {motion: np.ptp(centre_path(motion), axis=0) for motion in MOTIONS}
    across, down = 0, 1
    assert spread["bouncing"][down] > 3 * spread["bouncing"][across] + 10
    assert spread["sliding"][across] > 3 * spread["sliding"][down] + 10
    assert min(spread["circling"][:2]) > 10
    assert max(spread["spinning"][:2]) < 5
    mean_area = centre_path("pulsing")[:, 2].min()
    assert spread["pulsing"][2] > 0.5 * mean_area


def test_every_timbre_sounds_different() -> None:
    heard = []
    for timbre in TIMBRES:
        name = f"square sliding {timbre} steady apart"
        clips = [render_clip(name, seed)[2] for seed in range(6)]
        heard.append(np.mean([AudioDescriptors()(clip, RATE).values[:, :40].mean(0) for clip in clips], 0))
    centred = np.stack(heard) - np.mean(heard, axis=0)
    for one, other in itertools.combinations(centred, 2):
        assert np.abs(one - other).mean() > 0.1
    loud = {timbre: bands.argmax() for timbre, bands in zip(TIMBRES, heard, strict=True)}
    assert loud["hissing"] > loud["humming"] + 15


def agreement(name: str) -> float:
    """How far onsets and motion agree in time, from pixels and samples alone."""
    found = []
    for seed in range(12):
        frames, fps, waveform, rate = render_clip(name, seed)
        heard = AudioDescriptors()(waveform, rate).values[:, 88:96].ravel()
        seen = VideoDescriptors()(frames, np.arange(len(frames)) / fps).values[:, 60:68].ravel()
        # A frame shows a stroke that has begun, so the picture lags by about an eighth.
        found.append(np.corrcoef(heard[:-1], seen[1:])[0, 1])
    return float(np.mean(found))


def test_pictures_and_sound_together_tell_together_from_apart() -> None:
    joined = agreement("square sliding buzzing scattered together")
    split = agreement("square sliding buzzing scattered apart")
    assert joined > 0.3
    assert split < 0.15


@pytest.mark.parametrize(
    "name", ["", "circle", "circle bouncing buzzing fast together", "bouncing circle buzzing steady apart"]
)
def test_a_name_that_is_no_class_is_told(name: str) -> None:
    with pytest.raises(SacmaError, match="no AV-Shapes class"):
        render_clip(name, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_told(seed: int) -> None:
    with pytest.raises(SacmaError, match="seed"):
        render_clip(TRAIN[0], seed)
