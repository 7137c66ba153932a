"""Recordings that were put behind each other in one file, as ``cat`` does: is there more than one?"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import BinaryIO

_FLV = b"FLV\x01"
_FLV_HEAD = 13
"""Bytes before the first tag, with the size of the tag before it, which there is none of."""
_MOST = 5_000_000
"""Tags or boxes that are looked at."""


class Bytes:
    """A file without a name, so that FFmpeg judges by the content alone.

    Of FLV recordings behind each other, all heads but the first are left out: FFmpeg takes one for a tag that
    goes on to the end of the file, and would show the first recording alone.
    """

    def __init__(self, file: BinaryIO) -> None:
        heads = list(_flv_heads(file))
        file.seek(0)
        self.read, self.seek, self.tell = file.read, file.seek, file.tell
        if heads:
            self._file, self._place = file, 0
            ends = [*heads, os.fstat(file.fileno()).st_size]
            self._starts = [0, *(head + _FLV_HEAD for head in heads)]  # of the pieces, in the file
            self._first = [0]  # of the pieces, in what is read
            for start, end in zip(self._starts, ends, strict=True):
                self._first.append(self._first[-1] + end - start)
            self.read, self.seek, self.tell = self._read, self._seek, lambda: self._place

    def _read(self, size: int = -1, /) -> bytes:
        piece = bisect_right(self._first, self._place) - 1
        if piece >= len(self._starts):
            return b""
        left = self._first[piece + 1] - self._place
        self._file.seek(self._starts[piece] + self._place - self._first[piece])
        content = self._file.read(left if size < 0 else min(size, left))
        self._place += len(content)
        return content

    def _seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._first[-1]}[whence]
        self._place = max(0, base + offset)
        return self._place


def one_recording(file: BinaryIO) -> bool:
    """True if a Matroska, MP4 or FLV file says that it is one recording."""
    file.seek(0)
    head = file.read(1024)
    if head.startswith(_FLV):
        return not any(_flv_heads(file))
    if head[4:8] in (b"ftyp", b"moov", b"styp", b"free", b"wide", b"mdat"):
        return _movies(file) <= 1
    return _one_segment(head, os.fstat(file.fileno()).st_size)


def _flv_heads(file: BinaryIO) -> Iterator[int]:
    """Where further recordings begin in an FLV file (Adobe Flash Video File Format 10.1, annex E)."""
    file.seek(0)
    if not file.read(9).startswith(_FLV):
        return
    place = _FLV_HEAD
    for _ in range(_MOST):
        file.seek(place)
        tag = file.read(11)
        if len(tag) < 11:
            return
        if tag.startswith(_FLV):
            yield place
            place += _FLV_HEAD
        else:
            place += 11 + int.from_bytes(tag[1:4], "big") + 4


def _movies(file: BinaryIO) -> int:
    """Number of ``moov`` boxes of an MP4 file (ISO/IEC 14496-12, section 4.2)."""
    place = movies = 0
    for _ in range(_MOST):
        file.seek(place)
        box = file.read(16)
        size = int.from_bytes(box[:4], "big")
        movies += box[4:8] == b"moov"
        if size == 1:
            size = int.from_bytes(box[8:16], "big")
        if len(box) < 8 or size < 8:
            break
        place += size
    return movies


def _one_segment(head: bytes, whole: int) -> bool:
    """True if a Matroska file says that it has one segment, which fills it.

    Files that were joined have more, and recorders do not say (RFC 8794, RFC 9559, section 5.1).

    Args:
        head: how the file begins.
        whole: its bytes.
    """
    place = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML, Segment
        first = head[place + 4] if head[place : place + 4] == name and len(head) > place + 4 else 0
        if not first:
            return False
        width = 9 - first.bit_length()  # the bits before the first one set tell the width of the number
        unknown = (1 << 7 * width) - 1
        size = int.from_bytes(head[place + 4 : place + 4 + width], "big") & unknown
        if size == unknown:
            return False
        place += 4 + width + size
    return place >= whole
