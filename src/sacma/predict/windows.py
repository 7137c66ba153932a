"""Windows over a clip, and the feature steps within each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from sacma.errors import SacmaError
from sacma.media.backbones import Steps
from sacma.types import Sequences

LONGEST = 300.0
"""Seconds of the longest window: attention grows with the square of the length."""
MOST_WINDOWS = 100_000


def windows_of(
    seconds: float, *, window: float | None, hop: float | None, least: float, clip: str
) -> list[tuple[float, float]]:
    """Start and end of each window in seconds; a clip that is not cut is one window.

    Args:
        seconds: length of the clip.
        window: length of a window; None for the whole clip.
        hop: from the start of one window to the start of the next; None for half a window.
        least: the shortest window allowed, one step.
        clip: name of the clip, for errors.

    Raises:
        SacmaError: the clip is too long for one window, or window or hop is out of range.
    """
    if window is None:
        if hop is not None:
            raise SacmaError(f"a hop of {hop:g} s without a window; give the window too")
        if seconds > LONGEST:
            raise SacmaError(
                f"{clip}: {seconds:.0f} s, at most {LONGEST:.0f} s are taken as one clip; slide over it "
                "with --window 10, or choose a part by --start and --end"
            )
        return [(0.0, seconds)]
    hop = window / 2 if hop is None else hop
    if not least <= window <= LONGEST:
        raise SacmaError(f"a window of {window:g} s; choose one from {least:g} s (one step) to {LONGEST:g} s")
    if not 0 < hop < math.inf:
        raise SacmaError(f"a hop of {hop:g} s; it must be above 0")
    count = max(1, math.ceil((seconds - window) / hop - 1e-9) + 1)
    if count > MOST_WINDOWS:
        raise SacmaError(
            f"{clip}: {count:,} windows, at most {MOST_WINDOWS:,} are allowed; take a longer hop"
        )
    return [(hop * k, min(hop * k + window, max(seconds, least))) for k in range(count)]


def steps_within(
    steps: Steps | None, windows: Sequence[tuple[float, float]], *, step_seconds: float, width: int
) -> Sequences:
    """The steps that begin within each window, with times from the start of the window.

    Args:
        steps: of the clip; None if it lacks the modality, which gives sequences of length 0.
        windows: B pairs of start and end in seconds.
        step_seconds: seconds of a step.
        width: of the features.
    """
    values = np.zeros((0, width), np.float32) if steps is None else steps.values

    def first_step(seconds: float) -> int:
        return min(len(values), math.ceil(seconds / step_seconds - 1e-6))

    bounds = [(first_step(begin), first_step(end)) for begin, end in windows]
    kept = [torch.from_numpy(np.ascontiguousarray(values[first:last])) for first, last in bounds]
    lengths = torch.tensor([len(one) for one in kept])
    longest = int(lengths.max())
    seconds = torch.cat([torch.arange(len(one)) for one in kept]).float() * step_seconds
    return Sequences(torch.cat(kept), lengths, seconds, longest)
