"""The course of a clip in time: stretches in which one name is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sacma.app.times import shown
from sacma.predict import Window

WINDOW, SHORTEST = 10.0, 20.0
"""Seconds of a window, and of the shortest clip that is cut into windows."""
COLOURS = 8
"""Colours of names on the timeline; later names share one."""


@dataclass(frozen=True)
class Stretch:
    """A part of a clip with one best name.

    Attributes:
        start: seconds.
        end: seconds.
        name: the best one.
        probability: mean over its windows.
        left: where it begins, in percent of the part that was looked at.
        width: in percent.
        colour: number of its colour, from 0; the last one for names beyond ``COLOURS``.
    """

    start: float
    end: float
    name: str
    probability: float
    left: float
    width: float
    colour: int

    @property
    def clock(self) -> str:
        """From when to when."""
        return f"{shown(self.start)} to {shown(self.end)}"


def window_of(seconds: float, least: float) -> float | None:
    """Seconds of the windows that a clip is cut into; None for a short one, which is not cut.

    Args:
        seconds: length of the clip.
        least: seconds of the shortest window that the model takes.
    """
    window = max(WINDOW, least)
    return window if seconds >= max(SHORTEST, 2 * window) else None


def stretches(windows: Sequence[Window]) -> tuple[Stretch, ...]:
    """The stretches of a clip; one ends halfway between the middles of two windows."""
    middles = [(window.start + window.end) / 2 for window in windows]
    borders = [(a + b) / 2 for a, b in pairwise(middles)]
    begins, ends = [windows[0].start, *borders], [*borders, windows[-1].end]
    whole = ends[-1] - begins[0]
    found: list[Stretch] = []
    colours: dict[str, int] = {}
    first = 0
    for place, window in enumerate(windows):
        name = window.answers[0].name
        if place + 1 < len(windows) and windows[place + 1].answers[0].name == name:
            continue
        some = windows[first : place + 1]
        start, end = begins[first], ends[place]
        found.append(
            Stretch(
                start,
                end,
                name,
                sum(one.answers[0].probability for one in some) / len(some),
                100 * (start - begins[0]) / whole,
                100 * (end - start) / whole,
                colours.setdefault(name, min(len(colours), COLOURS - 1)),
            )
        )
        first = place + 1
    return tuple(found)
