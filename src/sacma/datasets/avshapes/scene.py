"""The random scene of a clip: times of its notes and strokes, colours, pitch and noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacma.datasets.avshapes.definition import (
    FPS,
)
from sacma.text.avshapes_words import (
    RHYTHMS,
    VERSION,
)


@dataclass(frozen=True)
class Scene:
    """All that varies between clips of a class. Lengths are fractions of a frame's side; y points down."""

    duration: float
    """Seconds."""
    notes: NDArray[np.float64]
    """Seconds at which notes start, ascending."""
    strokes: NDArray[np.float64]
    """Seconds at which strokes of the motion start, ascending; those of the notes where both are in step."""
    radius: float
    centre: tuple[float, float]
    tilt: float
    reach: float
    """How far a stroke goes, 0 to 1 of what the motion allows."""
    clockwise: float
    colour: NDArray[np.float64]
    background: NDArray[np.float64]
    """(2, 3) colours between which the background runs, in the direction ``slope``."""
    slope: float
    grain: float
    pitch: float
    note_length: float
    loudness: float
    hiss: float
    """Level of the noise behind the sound."""
    hiss_colour: float


def random_state(seed: int, purpose: str) -> np.random.RandomState:
    """Return the random state of one part of a clip: ``scene``, ``grain`` or ``sound``."""
    # The stream of RandomState is frozen; that of numpy's Generator may change from one release to the next.
    digest = hashlib.sha256(f"{VERSION}/{seed}/{purpose}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype=">u4").astype(np.uint32))


def draw_scene(words: Sequence[str], seed: int) -> Scene:
    """Draw the scene of a clip.

    Args:
        words: shape, motion, timbre, rhythm and binding of its class.
        seed: of the clip, 0 to 2**32 - 1.
    """
    random = random_state(seed, "scene")
    rhythm, binding = words[3:]
    duration = round(random.uniform(2.0, 8.0) * FPS) / FPS
    notes = _beats(rhythm, duration, random)
    strokes = notes if binding == "together" else _out_of_step(notes, duration, random)
    background = random.uniform(0.1, 0.9)
    contrast = random.uniform(0.35, 0.5) * (-1 if background > 0.5 else 1)
    return Scene(
        duration=duration,
        notes=notes,
        strokes=strokes,
        radius=random.uniform(0.12, 0.18),
        centre=(random.uniform(-0.1, 0.1), random.uniform(-0.1, 0.1)),
        tilt=np.deg2rad(random.uniform(-12, 12)),
        reach=random.uniform(0.0, 1.0),
        clockwise=float(random.choice([-1.0, 1.0])),
        colour=np.clip(background + contrast + random.uniform(-0.15, 0.15, 3), 0, 1),
        background=np.clip(background + random.uniform(-0.1, 0.1, (2, 3)), 0, 1),
        slope=random.uniform(0, 2 * np.pi),
        grain=random.uniform(0.008, 0.03),
        pitch=float(np.exp(random.uniform(np.log(180), np.log(480)))),
        note_length=random.uniform(0.14, 0.22),
        loudness=random.uniform(0.2, 0.6),
        hiss=float(np.exp(random.uniform(np.log(0.001), np.log(0.012)))),
        hiss_colour=random.uniform(0, 1),
    )


def _beats(rhythm: str, duration: float, random: np.random.RandomState) -> NDArray[np.float64]:
    """Draw the times of beats in seconds: bars of 0.8 to 1.2 s, one in seven silent, never two in a row."""
    bar = random.uniform(0.8, 1.2)
    start = random.uniform(-0.5, 0.0) * bar
    beats: list[float] = []
    silent = True  # the first bar sounds
    while start < duration:
        places = _places(rhythm, random)
        silent = not silent and random.uniform() < 1 / 7
        if not silent:
            beats += [start + bar * place for place in places]
        start += bar
    heard = np.array([beat for beat in beats if 0 <= beat < duration - 0.1])
    return heard if len(heard) else _beats(rhythm, duration, random)  # all outside a short clip: once more


def _places(rhythm: str, random: np.random.RandomState) -> Sequence[float]:
    """Return the places of a rhythm's beats in a bar, 0 to 1."""
    if rhythm == "scattered":
        first = random.uniform(0.0, 0.55)
        return first, random.uniform(first + 0.2, 0.8)
    return {"steady": (0.0, 0.5), "paired": (0.0, 0.25), "galloping": (0.0, 0.5, 0.75)}[rhythm]


def _out_of_step(
    notes: NDArray[np.float64], duration: float, random: np.random.RandomState
) -> NDArray[np.float64]:
    """Draw beats of which few fall within a tenth of a second of a note.

    Their rhythm is drawn too: the pictures of a class that is "apart" must not show the rhythm of its notes.
    """
    best, fewest = notes, np.inf
    for _ in range(20):
        beats = _beats(RHYTHMS[random.randint(len(RHYTHMS))], duration, random)
        near = (np.abs(beats[:, None] - notes).min(axis=1) < 0.1).mean()
        if near < fewest:
            best, fewest = beats, near
        if fewest < 0.2:
            break
    return best
