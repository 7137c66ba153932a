"""TFRecord shards like those of YouTube-8M, encoded byte by byte: they share no code with the reader."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

_TABLE = []
for _byte in range(256):
    _crc = _byte
    for _ in range(8):
        _crc = (_crc >> 1) ^ (0x82F63B78 if _crc & 1 else 0)  # the polynomial of CRC-32C, reflected
    _TABLE.append(_crc)


def crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A field of wire type 2: bytes, text, a message, or packed numbers."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(value: bytes | Sequence[int] | np.ndarray) -> bytes:
    """A Feature of one byte string, of int64 numbers, or of floats (an array)."""
    if isinstance(value, bytes):
        return field(1, field(1, value))
    if isinstance(value, np.ndarray):
        return field(2, field(1, value.astype("<f4").tobytes()))
    return field(3, field(1, b"".join(map(varint, value))))


def named(entries: Mapping[str, bytes], number: int = 1) -> bytes:
    """A map field: name -> encoded message."""
    return b"".join(field(number, field(1, name.encode()) + field(2, held)) for name, held in entries.items())


def video_level(features: Mapping[str, bytes | Sequence[int] | np.ndarray]) -> bytes:
    """An Example."""
    return field(1, named({name: feature(value) for name, value in features.items()}))


def frame_level(
    context: Mapping[str, bytes | Sequence[int] | np.ndarray], frames: Mapping[str, Iterable[bytes]]
) -> bytes:
    """A SequenceExample whose feature lists hold byte strings."""
    lists = {name: b"".join(field(1, feature(step)) for step in steps) for name, steps in frames.items()}
    head = named({name: feature(value) for name, value in context.items()})
    return field(1, head) + field(2, named(lists))


def write_shard(path: Path, contents: Iterable[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(record, contents)))
    return path
