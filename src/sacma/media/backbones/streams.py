"""Pieces of streams: windows of sound, squares of frames, batches, and vectors joined to steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.media.arrays import Frame, Waveform
from sacma.media.backbones.base import Steps

_T = TypeVar("_T")

_LEAST_REST = 2.0
"""Seconds of a rest that is worth a part of its own."""


def regular_steps(values: list[NDArray[np.float32]], step_seconds: float) -> Steps | None:
    """Join batches of vectors (B, D) to steps that begin at 0 s; None where there are none."""
    if not values:
        return None
    joined = np.concatenate(values).astype(np.float32, copy=False)
    return Steps(joined, np.arange(len(joined), dtype=np.float64) * step_seconds)


def steps_seen(count: int, step_seconds: float, looks: float, start: float, end: float) -> slice:
    """The steps whose middle lies between two moments, both counted in; the last one where its start does.

    Args:
        count: number of steps, the first at 0 s.
        step_seconds: from one step to the next.
        looks: seconds that a step looks at from its start on.
        start: seconds.
        end: seconds; may be infinite.
    """
    if end > (count - 1) * step_seconds:
        last = count
    else:
        last = max(0, math.floor((end - looks / 2) / step_seconds + 1e-6) + 1)
    return slice(min(count, max(0, math.ceil((start - looks / 2) / step_seconds - 1e-6))), last)


def middle(frame: Frame) -> Frame:
    """The square in the middle of a frame (H, W, 3)."""
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of ``size`` items, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def in_batches(work: Callable[[Any], Any], items: Any, size: int) -> list[Any]:
    """Results of ``work`` on batches of items; batches are halved where a GPU's memory is too small.

    Args:
        work: on a batch.
        items: a sequence or tensor.
        size: of a batch.

    Raises:
        SacmaError: a single item does not fit into the memory.
    """
    import torch

    made: list[Any] = []
    start = 0
    while start < len(items):
        try:
            made.append(work(items[start : start + size]))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if size == 1:
                raise SacmaError("the GPU's memory is too small for this model; use --device cpu") from error
            size = (min(size, len(items) - start) + 1) // 2
            continue
        start += size
    return made


def windows(blocks: Iterable[Waveform], length: int, hop: int) -> Iterator[Waveform]:
    """Windows (length,) of a waveform in blocks, one every ``hop`` samples.

    A waveform shorter than one window is padded with zeros to one; what is left over at the end of a longer
    one is not used. There are none where there is no sound.
    """
    held = np.zeros(0, np.float32)
    skip, some = 0, False
    for block in blocks:
        held = np.concatenate([held, block]) if len(held) else block
        held, skip = held[skip:], max(0, skip - len(held))
        while len(held) >= length:
            yield held[:length]
            some = True
            held, skip = held[hop:], max(0, hop - len(held))
    if not some and len(held):
        yield np.pad(held, (0, length - len(held)))


def parts(blocks: Iterable[Waveform], length: int, rate: int) -> Iterator[Waveform]:
    """Parts (length,) of a waveform in blocks, one after another; the last one may be shorter.

    A rest of less than two seconds is left out where there are parts before it.
    """
    held, some = np.zeros(0, np.float32), False
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= length:
            yield held[:length]
            held, some = held[length:], True
    if len(held) >= _LEAST_REST * rate or (len(held) and not some):
        yield held
