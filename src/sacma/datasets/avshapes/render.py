"""Pictures and sound of AV-Shapes.

A picture is drawn from the distance of each pixel to the outline of the shape, so that a scene is the same at
every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacma.datasets.avshapes.definition import (
    FPS,
    RATE,
    SIZE,
)
from sacma.datasets.avshapes.scene import Scene, draw_scene, random_state
from sacma.errors import SacmaError
from sacma.media.arrays import Frames
from sacma.text.avshapes_words import (
    class_words,
)


def render_clip(
    class_name: str, seed: int, *, size: int = SIZE, fps: int = FPS
) -> tuple[Frames, float, NDArray[np.float32], int]:
    """Draw one clip and its sound.

    Seed and class decide everything; ``size`` and ``fps`` show the same scene larger or more smoothly.

    Args:
        class_name: a shape, a motion, a timbre, a rhythm, and "together" or "apart"; not only the 51.
        seed: 0 to 2**32 - 1; see ``clip_seed`` for those of the benchmark.
        size: pixels along each side.
        fps: frames per second.

    Returns:
        frames (F, size, size, 3), frames per second, waveform (S,) from -1 to 1, samples per second. Frame i
        is shown at i / fps seconds; pictures and sound are equally long, 2 to 8 s.

    Raises:
        SacmaError: the name is not made of the five words, or the seed is out of range.
    """
    words = class_words(class_name)
    if not 0 <= seed < 2**32:
        raise SacmaError(f"seed {seed} is out of range; expected 0 to {2**32 - 1}")
    scene = draw_scene(words, seed)
    return _frames(words, scene, seed, size, fps), float(fps), _waveform(words[2], scene, seed), RATE


_STROKE_SECONDS = 0.28
_PIXELS = 50_000
"""Pixels drawn at once, some frames: they stay in the processor's cache."""


@dataclass(frozen=True)
class _Pose:
    """Place, angle and size of the shape in each frame, (F,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    scale: NDArray[np.float64]


def _poses(motion: str, scene: Scene, times: NDArray[np.float64]) -> _Pose:
    """Move the shape from each beat on: a hop, a slide, part of a turn, a swelling or part of an orbit."""
    strokes = scene.strokes
    length = np.minimum(_STROKE_SECONDS, np.diff(strokes, append=np.inf))
    current = np.maximum(np.searchsorted(strokes, times, side="right") - 1, 0)
    part = np.clip((times - strokes[current]) / length[current], 0, 1)  # (F,) of the current stroke
    there_and_back = np.sin(np.pi * part)
    done = current + part * part * (3 - 2 * part)  # strokes made so far, starting and ending gently
    still = np.zeros_like(times)
    x, y = scene.centre[0] + still, scene.centre[1] + still
    angle, scale = scene.tilt + still, 1 + still
    if motion == "bouncing":
        y += 0.08 - (0.18 + 0.08 * scene.reach) * there_and_back
    elif motion == "sliding":
        x += scene.clockwise * (0.12 + 0.08 * scene.reach) * np.cos(np.pi * done)
    elif motion == "spinning":
        angle += scene.clockwise * np.deg2rad(50 + 40 * scene.reach) * done
    elif motion == "pulsing":
        scale += (0.35 + 0.25 * scene.reach) * there_and_back
    else:
        turned = scene.clockwise * np.deg2rad(55 + 35 * scene.reach) * done + scene.slope
        orbit = 0.12 + 0.06 * scene.reach
        x, y = x + orbit * np.cos(turned), y + orbit * np.sin(turned)
    return _Pose(x, y, angle, scale)


def _frames(words: Sequence[str], scene: Scene, seed: int, size: int, fps: int) -> Frames:
    times = np.arange(round(scene.duration * fps)) / fps
    pose = _poses(words[1], scene, times)
    grain = random_state(seed, "grain")
    grid = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    behind, colour = _background(scene, grid), scene.colour.astype(np.float32)
    out = np.empty((len(times), size, size, 3), np.uint8)
    block = max(1, _PIXELS // size**2)
    for start in range(0, len(times), block):
        rows = slice(start, start + block)
        inside = _inside(words[0], scene, pose, rows, grid)
        picture = grain.standard_normal((*inside.shape, 3)).astype(np.float32)
        picture *= np.float32(scene.grain)
        for channel in range(3):  # a loop over whole planes: NumPy is slow along an axis of three
            plane = behind[..., channel]
            picture[..., channel] += plane + (colour[channel] - plane) * inside
        picture *= 255
        picture += 0.5
        out[rows] = np.clip(picture, 0, 255, out=picture)
    return out


def _background(scene: Scene, grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what lies behind the shape, (H, W, 3) from 0 to 1."""
    slope = np.cos(scene.slope) * grid[None, :] + np.sin(scene.slope) * grid[:, None] + 0.5
    low, high = scene.background.astype(np.float32)
    return np.asarray(low + (high - low) * slope[..., None].astype(np.float32), dtype=np.float32)


def _inside(
    shape: str, scene: Scene, pose: _Pose, rows: slice, grid: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how far each pixel of the frames ``rows`` lies inside the shape, (F, H, W) from 0 to 1."""

    def column(values: NDArray[np.float64]) -> NDArray[np.float32]:
        return values[rows, None, None].astype(np.float32)

    x, y = grid[None, None, :] - column(pose.x), grid[None, :, None] - column(pose.y)
    cos, sin = np.cos(column(pose.angle)), np.sin(column(pose.angle))
    unit = np.float32(scene.radius) * column(pose.scale)
    u, v = (
        (x * cos + y * sin) / unit,
        (y * cos - x * sin) / unit,
    )  # (F, H, W), shapes have a radius of about 1
    sharpness = unit * len(grid)
    inside = np.clip(0.5 - _distance(shape, u, v) * sharpness, 0, 1)
    mark = np.clip(0.5 - (np.hypot(u - np.float32(0.45), v) - np.float32(0.25)) * sharpness, 0, 1)
    # A hole beside the middle: a circle that spins is seen to.
    return np.asarray(inside * (1 - mark), dtype=np.float32)


def _distance(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance of points to an outline about as large as the unit circle, negative inside."""
    if shape == "circle":
        return np.hypot(u, v) - np.float32(1)
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.89)
    if shape == "bar":
        return np.maximum(np.abs(u) - np.float32(1.75), np.abs(v) - np.float32(0.45))
    if shape == "triangle":
        half, root = np.float32(0.5), np.float32(np.sqrt(0.75))
        return np.maximum(v, root * np.abs(u) - half * v) - np.float32(0.78)
    # star: five tips at 1.6, dents at 0.72; one edge between a tip and a dent, mirrored ten times
    tip, dent, tenth = np.float32(1.6), np.float32(0.72), np.float32(np.pi / 5)
    angle = np.abs(np.mod(np.arctan2(u, -v) + tenth, 2 * tenth) - tenth)  # 0 towards a tip
    far = np.hypot(u, v)
    edge_x, edge_y = dent * np.cos(tenth) - tip, dent * np.sin(tenth)
    outward = (far * np.cos(angle) - tip) * edge_y - far * np.sin(angle) * edge_x
    return np.asarray(outward / np.hypot(edge_x, edge_y), dtype=np.float32)


def _waveform(timbre: str, scene: Scene, seed: int) -> NDArray[np.float32]:
    random = random_state(seed, "sound")
    samples = round(scene.duration * RATE)
    white = random.standard_normal(samples + 7)
    dull = np.convolve(white, np.full(8, 8**-0.5), mode="valid")  # the same power, mostly below 500 Hz
    out = scene.hiss * (scene.hiss_colour * dull + (1 - scene.hiss_colour) * white[:samples])
    for start in np.round(scene.notes * RATE).astype(int):
        pitch = scene.pitch * random.uniform(0.97, 1.03)
        note = _note(timbre, pitch, scene.note_length, random)[: samples - start]
        out[start : start + len(note)] += scene.loudness * random.uniform(0.7, 1.0) * note
    return np.clip(out, -1, 1).astype(np.float32)


def _note(timbre: str, pitch: float, length: float, random: np.random.RandomState) -> NDArray[np.float64]:
    """Make one note, (S,), with a peak of 1."""
    t = np.arange(round(length * RATE)) / RATE
    turns = 2 * np.pi * pitch * t
    if timbre == "humming":  # nearly a sine
        note = np.sin(turns) + 0.15 * np.sin(2 * turns)
    elif timbre == "buzzing":  # a saw tooth, all harmonics below 3.8 kHz
        orders = np.arange(1, int(3800 / pitch) + 1)
        note = (np.sin(orders[:, None] * turns) / orders[:, None]).sum(axis=0)
    elif timbre == "ringing":  # a bell: partials that are no harmonics, the higher the sooner gone
        ratios = np.array([[1.0], [2.76], [5.4]])
        note = (np.sin(ratios * turns) * np.exp(-6 * ratios * t) / ratios**0.5).sum(axis=0)
    elif timbre == "hissing":  # noise without its low part
        note = np.diff(random.standard_normal(len(t) + 1))
    else:  # chirping: up from the pitch to three times it
        note = np.sin(turns * (1 + t / length))
    note = note * np.minimum(1, t / 0.01) * np.minimum(1, (length - t) / 0.03)
    return np.asarray(note / np.abs(note).max())
