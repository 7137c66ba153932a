"""Packets that need not be decoded, because no picture that is sampled needs them.

At one picture a second, most pictures of a clip are decoded for nothing. Two kinds of packets can be left out
without a change of the others: pictures that no other one refers to (nal_ref_idc 0, ITU-T H.264, 7.4.1;
sub-layer non-reference pictures, H.265, 7.4.2.2), and what follows the last sampled picture before one that
forgets all earlier ones (IDR, H.264 7.4.1.2.4; every picture of codecs without prediction between pictures)
or before the end of the stream.

Packets are looked at in groups, from one independent picture to the next. What is not understood is decoded.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

NEAR = 1e-4
"""Time stamps are rounded; what is nearer than this is the same moment."""
_ROUNDING = 1e-6
_MOST_PACKETS, _MOST_BYTES = 600, 16 << 20
"""Limits of a group; a longer one is decided upon in parts."""


class Doubt(Exception):  # noqa: N818
    """The decoder did not give what was expected of it, so that all has to be decoded."""


class Role(Enum):
    """Relation of a picture to the others: it starts anew, may be referred to, or is not referred to."""

    INDEPENDENT = "independent"
    REFERENCE = "reference"
    DISPOSABLE = "disposable"


@dataclass(frozen=True)
class Grid:
    """Moments at which pictures are sampled: ``first``, ``first`` + 1 / ``rate`` and so on.

    Attributes:
        first: seconds.
        rate: moments per second.
    """

    first: float
    rate: float

    def within(self, begins: float, ends: float) -> bool:
        """True if a picture that is shown between two moments is sampled, or if rounding leaves that open."""
        lowest = math.ceil((begins - NEAR - self.first) * self.rate - _ROUNDING)
        highest = math.floor((ends - NEAR - self.first) * self.rate + _ROUNDING)
        return highest >= max(0, lowest)


@dataclass(frozen=True)
class Held:
    """A packet that waits for the rest of its group.

    Attributes:
        packet: PyAV's.
        time: seconds when its picture is shown; None where that is not known.
        role: of its picture.
        needed: it has to be decoded.
    """

    packet: Any
    time: float | None
    role: Role
    needed: bool = True


class Selection:
    """Divides the packets of a stream into those that are needed and those that are not.

    Args:
        grid: when pictures are sampled.
        codec: PyAV's context of the decoder.
        key_frames: no others are needed.
    """

    def __init__(self, grid: Grid, codec: Any, *, key_frames: bool = False) -> None:
        self._key_frames = key_frames
        self._grid, self._codec = grid, codec.codec.canonical_name
        self._independent = codec.codec.intra_only
        head = bytes(codec.extradata or b"")
        self._prefix = _prefix(self._codec, head)
        # Pictures of a higher layer in time may refer to those that their own layer does not refer to.
        self._layers = (head[21] >> 3 & 7) if self._codec == "hevc" and self._prefix else 0
        self._held: list[Held] = []
        self._bytes = 0

    def put(self, packet: Any, time: float | None) -> list[Held]:
        """Take the next packet of the stream; return those that are decided upon, in their order."""
        decided: list[Held] = []
        if self._key_frames and not packet.is_keyframe:
            return [Held(packet, time, Role.DISPOSABLE, needed=False)]
        role = Role.INDEPENDENT if self._key_frames else self._role(packet)
        if role is Role.INDEPENDENT:
            decided = self.rest(time)
        self._held.append(Held(packet, time, role))
        self._bytes += packet.size
        if len(self._held) > _MOST_PACKETS or self._bytes > _MOST_BYTES:
            decided += self.rest()
        return decided

    def rest(self, until: float | None = None) -> list[Held]:
        """Decide upon what is held.

        Args:
            until: when the independent picture that follows is shown, or where the last picture of all ends;
                None where neither is known.
        """
        held, self._held, self._bytes = self._held, [], 0
        times = [one.time for one in held if one.time is not None]
        order = sorted({*times})
        if len(order) < len(held) or (until is not None and order and order[-1] >= until):
            return held
        after = [*order[1:], until]
        sampled = [
            (later := after[bisect_right(order, time) - 1]) is None or self._grid.within(time, later)
            for time in times
        ]
        last = (
            len(held) - 1 if until is None else max((n for n, one in enumerate(sampled) if one), default=-1)
        )
        return [
            Held(
                *(one.packet, one.time, one.role),
                needed=number <= last and (sampled[number] or one.role is not Role.DISPOSABLE),
            )
            for number, one in enumerate(held)
        ]

    def _role(self, packet: Any) -> Role:
        if self._independent:
            return Role.INDEPENDENT
        slices = [unit for unit in _units(memoryview(packet), self._prefix) if self._is_slice(unit)]
        if slices and all(map(self._starts_anew, slices)):
            return Role.INDEPENDENT
        if slices and all(map(self._is_disposable, slices)):
            return Role.DISPOSABLE
        return Role.REFERENCE

    def _is_slice(self, unit: int) -> bool:
        return 1 <= unit & 31 <= 5 if self._codec == "h264" else unit >> 1 & 63 < 32

    def _starts_anew(self, unit: int) -> bool:
        return unit & 31 == 5 if self._codec == "h264" else unit >> 1 & 63 in (19, 20)

    def _is_disposable(self, unit: int) -> bool:
        if self._codec == "h264":
            return not unit >> 5 & 3
        return self._layers == 1 and unit >> 1 & 63 in range(0, 16, 2)


def understood(codec: Any) -> bool:
    """True if packets of a decoder can be told apart; ``codec`` is PyAV's context."""
    return codec.codec.intra_only or codec.codec.canonical_name in ("h264", "hevc")


def _prefix(codec: str, head: bytes) -> int:
    """Bytes of the length before each unit; 0 where units begin with a start code.

    The head is then a configuration record (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1).
    """
    if codec == "h264" and len(head) > 6 and head[0] == 1:
        return (head[4] & 3) + 1
    if codec == "hevc" and len(head) > 22 and head[0] == 1:
        return (head[21] & 3) + 1
    return 0


def _units(data: memoryview, prefix: int) -> Iterator[int]:
    """First byte of each network abstraction layer unit of a packet."""
    place = 0
    if prefix:
        while place + prefix < len(data):
            yield data[place + prefix]
            place += prefix + int.from_bytes(data[place : place + prefix], "big")
        return
    whole = bytes(data)
    while (place := whole.find(b"\0\0\1", place)) >= 0 and place + 3 < len(whole):
        place += 3
        yield whole[place]
