"""The course of a clip in time: stretches in which one name is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacma.app.times import shown
from sacma.predict import Segment

WINDOW, SHORTEST = 4.0, 12.0
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
        probability: of that name.
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


def stretches(course: Sequence[Segment]) -> tuple[Stretch, ...]:
    """The stretches of a clip's timeline."""
    if not course:
        return ()
    begin, whole = course[0].start, course[-1].end - course[0].start
    colours: dict[str, int] = {}
    return tuple(
        Stretch(
            one.start,
            one.end,
            one.name,
            one.probability,
            100 * (one.start - begin) / whole,
            100 * (one.end - one.start) / whole,
            colours.setdefault(one.name, min(len(colours), COLOURS - 1)),
        )
        for one in course
    )
