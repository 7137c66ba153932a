"""Streams of a clip in another container, undecoded, so that a browser plays them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sacma.errors import SacmaError
from sacma.media.containers import Limits, opened
from sacma.media.tracks import origin

PICTURES = frozenset({"h264", "hevc", "av1", "vp9"})
SOUND = frozenset({"aac", "mp3", "opus", "flac"})
"""Codecs that browsers play out of an MP4 file."""
_BLOCK = 1 << 20
_MOST_WAITING = 64
"""Packets without a decoding time that are held for one that has it."""


def remuxed(path: Path, limits: Limits) -> Iterator[bytes]:
    """Give the first streams of pictures and sound as an MP4 file, in blocks.

    Streams that browsers cannot play are left out.

    Args:
        path: the media file.
        limits: what is refused.

    Raises:
        SacmaError: it cannot be read, or has no stream that browsers play.
    """
    import av

    made = io.BytesIO()
    with opened(path, limits) as source:
        chosen = [
            next((one for one in source.streams if one.type == kind and _codec(one) in known), None)
            for kind, known in (("video", PICTURES), ("audio", SOUND))
        ]
        streams = [one for one in chosen if one is not None]
        if not streams:
            raise SacmaError("no stream in it that browsers play; the clip can be used all the same")
        begin = origin(source)
        with av.open(made, "w", format="mp4") as target:
            copies = {one.index: target.add_stream_from_template(one) for one in streams}
            with suppress(av.FFmpegError):  # the file ends in the middle of something
                for packet in _in_order(source.demux(*streams)):
                    late = round(begin / packet.time_base)
                    packet.pts, packet.dts = packet.pts - late, packet.dts - late
                    packet.stream = copies[packet.stream_index]
                    target.mux(packet)
    content = made.getbuffer()
    for first in range(0, len(content), _BLOCK):
        yield bytes(content[first : first + _BLOCK])


def _in_order(packets: Iterable[Any]) -> Iterator[Any]:
    """The packets with decoding times, which Matroska does not give to the first ones of a stream."""
    waiting: dict[int, list[Any]] = {}
    for packet in packets:
        if packet.pts is None:
            continue  # the end of a stream
        held = waiting.setdefault(packet.stream_index, [])
        if packet.dts is None and len(held) < _MOST_WAITING:
            held.append(packet)
            continue
        first = packet.pts if packet.dts is None else packet.dts
        for place, early in enumerate(held):
            early.dts = first - len(held) + place
            yield early
        held.clear()
        packet.dts = first
        yield packet


def _codec(stream: Any) -> str:
    return "" if stream.codec_context is None else str(stream.codec_context.name)
