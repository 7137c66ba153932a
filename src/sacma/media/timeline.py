"""Time stamps as a player reads them: after a jump, the clip goes on without a gap.

Recordings that were joined start again at zero, and receivers of a stream that was interrupted jump ahead. A
clip of 12 s then has stamps that span an hour, or the same seconds twice. FFmpeg's own program repairs that
in the order of the file, and so does this: a stream whose decoding time goes back, or in formats for which
FFmpeg expects it ahead by more than ``FORWARD`` seconds, begins a new run of stamps, which the other streams
then share.
"""

from __future__ import annotations

import math
from typing import Any

BACK = 0.5
"""Seconds that decoding times may go back; they never do in a file that is right."""
FORWARD = 10.0
"""Seconds that they may leave out, as in FFmpeg (``-dts_delta_threshold``); less is a gap."""
_RUNS = 8
"""Newest runs of stamps in which a stream is looked for."""
_APART = 1.0
"""Seconds that streams may be apart in the order of a file; more, and one of them ended earlier."""


class Timeline:
    """Puts the packets of a file, in their order, on one time line.

    Args:
        discontinuous: the format is one whose stamps may jump ahead, such as a transport stream.

    Attributes:
        jumps: how often the stamps jumped.
        end: seconds where the last packet of all ends, as stamped after repair.
    """

    def __init__(self, *, discontinuous: bool) -> None:
        self.end = -math.inf
        self._forward = FORWARD if discontinuous else math.inf
        self._offsets = [0.0]  # seconds that are added to the stamps of each run
        self._ticks: dict[int, float] = {}  # by stream, seconds of a unit of its stamps
        self._run: dict[int, int] = {}  # by stream, the run that it is in
        self._last: dict[int, float] = {}  # by stream, when its last packet was due
        self._next: dict[int, float] = {}  # by stream, when its next packet is due

    @property
    def jumps(self) -> int:
        return len(self._offsets) - 1

    def place(self, packet: Any) -> None:
        """Correct the time stamps of the next packet of the file, if it has any."""
        dts, stream = packet.dts, packet.stream_index
        if dts is None:
            return
        tick = self._ticks.get(stream)
        if tick is None:
            tick = self._ticks[stream] = float(packet.time_base or 0)
        decoded = dts * tick
        run = self._run[stream] = self._run_of(stream, decoded, packet)
        offset = self._offsets[run]
        if offset and tick:
            shift = round(offset / tick)
            packet.dts = dts + shift
            if packet.pts is not None:
                packet.pts += shift
        length = (packet.duration or 0) * tick
        time = decoded + offset
        # Often there is no length, and that of the packet before tells better.
        step = time - self._last.get(stream, math.inf)
        self._last[stream] = time
        self._next[stream] = max(self._next.get(stream, -math.inf), time + (step if 0 < step < 1 else length))
        shown = packet.pts
        self.end = max(self.end, (time if shown is None else shown * tick) + length)

    def _run_of(self, stream: int, decoded: float, packet: Any) -> int:
        newest = len(self._offsets) - 1
        due = self._next.get(stream)
        if due is None:
            return newest
        if self._forward == math.inf and not packet.is_keyframe:
            return self._run[stream]  # formats without decoding times have them guessed, not always well
        own, latest = self._run[stream], max(self._next.values())
        for run in (own, *range(max(own + 1, newest - _RUNS), newest + 1)):
            time = decoded + self._offsets[run]
            # A picture that stands still for long is no jump: the sound has gone on meanwhile.
            if time - due >= -BACK and min(time - due, time - latest) <= self._forward:
                return run
        # Where stamps start again and one stream had ended earlier, what follows starts after the last one.
        ended = decoded + self._offsets[newest] < due and latest - due > _APART
        self._offsets.append((latest if ended else due) - decoded)
        return newest + 1
