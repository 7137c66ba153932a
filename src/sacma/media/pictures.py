"""Decoded pictures as a player shows them: upright, not mirrored, in their true shape, all of one size."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from sacma.errors import SacmaError
from sacma.media.arrays import Frame
from sacma.media.containers import Limits, reason

_WIDEST = 16
"""How many times as wide as high a stored point may be shown, or as high as wide; beyond is no true shape."""


class FrameFormat:
    """The size and the direction in which the pictures of a stream are given.

    Args:
        size: pixels of the shorter side; larger pictures are scaled down, smaller ones stay as they are.
        limits: what is refused.

    Pictures that come in another size than the first one given are scaled to its size.
    """

    def __init__(self, size: int | None, limits: Limits) -> None:
        self._size, self._limits = size, limits
        self._given: tuple[int, int] | None = None

    def array(self, frame: Any, aspect: Fraction | None) -> Frame:
        """A decoded frame as an array (H, W, 3).

        Args:
            frame: PyAV's.
            aspect: how many times as wide as high its points are shown; None where it does not say.

        Raises:
            SacmaError: it has no form that can be converted, or is larger than the limits.
        """
        import av

        matrix = _matrix(frame)
        turned = abs(matrix[1]) > abs(matrix[0])
        if self._given is None:
            width, height = self._shown(frame, aspect)
            self._given = (height, width) if turned else (width, height)
        width, height = reversed(self._given) if turned else self._given
        try:
            array = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
        except (av.FFmpegError, ValueError) as error:  # a form that no conversion is known for
            raise SacmaError(
                f"its pictures cannot be converted ({reason(error)}); encode it again"
            ) from error
        return np.ascontiguousarray(_upright(array, matrix))

    def _shown(self, frame: Any, aspect: Fraction | None) -> tuple[int, int]:
        """Width and height to scale a stored picture to, before it is turned."""
        width, height = frame.width, frame.height
        if aspect and aspect != 1 and Fraction(1, _WIDEST) <= aspect <= _WIDEST:
            width = max(1, round(width * aspect))
            check_size(width, height, self._limits)
        if self._size is not None and min(width, height) > self._size:
            scale = self._size / min(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        return width, height


class Picture:
    """A decoded frame, converted when it is first asked for."""

    def __init__(self, frame: Any, aspect: Fraction | None, shape: FrameFormat) -> None:
        self._frame, self._aspect, self._shape = frame, aspect, shape

    @cached_property
    def array(self) -> Frame:
        return self._shape.array(self._frame, self._aspect)


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture that is larger than the limits.

    Raises:
        SacmaError: it is.
    """
    if not width * height <= limits.pixels:
        raise SacmaError(
            f"pictures above the limit of {limits.pixels:,} pixels; raise the limit if the file is to be "
            "trusted"
        )


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: a stored point (x, y) is shown at (a x + c y, b x + d y)."""
    from av.sidedata.sidedata import Type

    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            values = memoryview(bytes(data)).cast("i")
            if len(values) == 9:
                return values[0], values[1], values[3], values[4]
    return 1, 0, 0, 1


def _upright(array: Frame, matrix: tuple[int, int, int, int]) -> Frame:
    """Turn and mirror by right angles; angles between go to the next one."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        array = array.swapaxes(0, 1)
        a, d = c, b
    return array[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
