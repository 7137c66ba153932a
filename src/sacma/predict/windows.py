"""Windows over a clip, and the feature steps within each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from sacma.errors import SacmaError
from sacma.media.backbones import Steps, steps_seen
from sacma.media.decode import Limits
from sacma.media.sources import ClipSource, name_of, opened
from sacma.types import Sequences

LONGEST = 300.0
"""Seconds of the longest window: attention grows with the square of the length."""
OF_LONG = 10.0
"""Seconds, about, of the windows that a longer clip is cut into where none are asked for."""
MOST_WINDOWS = 100_000


def windows_of(
    seconds: float, *, window: float | None, hop: float | None, least: float, clip: str
) -> list[tuple[float, float]]:
    """Start and end of each window in seconds; a clip that is not cut is one window.

    Args:
        seconds: length of the clip.
        window: length of a window; None for the whole clip, or equal windows of about ``OF_LONG`` seconds,
            one behind the other, of a clip longer than ``LONGEST``.
        hop: from the start of one window to the start of the next; None for half a window.
        least: the shortest window allowed, one step.
        clip: name of the clip, for errors.

    Raises:
        SacmaError: window or hop is out of range, or there would be too many windows.
    """
    if window is None:
        if hop is not None:
            raise SacmaError(f"a hop of {hop:g} s without a window; give the window too")
        if seconds <= LONGEST:
            return [(0.0, seconds)]
        window = hop = seconds / round(seconds / max(OF_LONG, least))
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


def check_windows(
    clip: ClipSource,
    *,
    start: float | None,
    end: float | None,
    window: float | None,
    hop: float | None,
    least: float,
    limits: Limits,
) -> None:
    """Find out whether a clip can be cut so before features are made of it.

    Args:
        clip: the clip, no open file.
        start: seconds at which its part begins.
        end: seconds at which its part ends.
        window: as in ``windows_of``.
        hop: as in ``windows_of``.
        least: as in ``windows_of``.
        limits: what a clip may ask of us.

    Raises:
        SacmaError: see ``windows_of`` and ``Clip.open``.
    """
    if window is None and hop is None:
        return
    name = name_of(clip)
    windows_of(0.0, window=window, hop=hop, least=least, clip=name)
    with opened(clip, limits=limits) as source:
        whole = source.seconds
    last = min((time for time in (whole, end) if time is not None), default=0.0)
    windows_of(max(0.0, last - (start or 0.0)), window=window, hop=hop, least=least, clip=name)


def cut_note(windows: Sequence[tuple[float, float]], window: float | None) -> list[str]:
    """The note for a clip that was cut into windows by itself."""
    if window is not None or len(windows) == 1:
        return []
    begin, end = windows[0]
    return [
        f"longer than {LONGEST:g} s, so it was cut into {len(windows)} windows of {end - begin:.3g} s; the "
        "answer is the mean over them"
    ]


def stands_for(windows: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Start and end of the part of the clip that each window's answer stands for.

    A window tells about its middle. So neighbours meet half-way between their middles, the first answer
    stands from the beginning on and the last one to the end; none for more than its window looks at.
    """
    meet = [(first[0] + first[1] + second[0] + second[1]) / 4 for first, second in pairwise(windows)]
    starts = [windows[0][0], *(max(b, w[0]) for b, w in zip(meet, windows[1:], strict=True))]
    ends = [*(min(b, w[1]) for b, w in zip(meet, windows, strict=False)), windows[-1][1]]
    return list(zip(starts, ends, strict=True))


def steps_within(
    steps: Steps | None,
    windows: Sequence[tuple[float, float]],
    *,
    step_seconds: float,
    width: int,
    looks: float | None = None,
) -> Sequences:
    """The steps that each window sees, with times from the start of the window.

    Args:
        steps: of the clip; None if it lacks the modality, which gives sequences of length 0.
        windows: B pairs of start and end in seconds.
        step_seconds: seconds of a step.
        width: of the features.
        looks: seconds that a step looks at from its start on, by default a step's.
    """
    values = np.zeros((0, width), np.float32) if steps is None else steps.values
    looks = step_seconds if looks is None else looks
    seen = [steps_seen(len(values), step_seconds, looks, begin, end) for begin, end in windows]
    kept = [torch.from_numpy(np.ascontiguousarray(values[some])) for some in seen]
    lengths = torch.tensor([len(one) for one in kept])
    longest = int(lengths.max())
    seconds = torch.cat([torch.arange(len(one)) for one in kept]).float() * step_seconds
    return Sequences(torch.cat(kept), lengths, seconds, longest)
