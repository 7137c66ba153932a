"""The layout of a fastText model (.bin), checked before gensim reads it.

gensim reads a cut file without an end, and reserves the memory that a header states. The layout is that of
https://github.com/facebookresearch/fastText: magic number and version, options, the words with their counts,
and two matrices.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from sacma.errors import SacmaError
from sacma.files import reading

_OPTIONS = struct.Struct("<12id")
_COUNTS = struct.Struct("<3i2q")
_MATRIX = struct.Struct("<?2q")
_HEAD = 8  # bytes of magic number and version
_ENTRY = 9  # bytes of count and type after a word
_LONGEST_WORD = 10_000


def check_fasttext(path: Path) -> None:
    """Check that a file is as long as its own header says.

    Raises:
        SacmaError: it is cut short, or its header is absurd.
    """
    with reading(path), path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        width = _OPTIONS.unpack_from(data, _HEAD)[0]
        words, _, _, _, pruned = _COUNTS.unpack_from(data, _HEAD + _OPTIONS.size)
        position = _HEAD + _OPTIONS.size + _COUNTS.size
        if not 0 < width <= 10_000 or words < 0 or words * (_ENTRY + 1) > len(data) or pruned > len(data):
            raise SacmaError(f"{path}: its header says {words} words of {width} numbers; get it again")
        for _ in range(words):
            end = data.find(b"\0", position, position + _LONGEST_WORD)
            if end < 0:
                raise _cut(path)
            position = end + 1 + _ENTRY
        position += 8 * max(0, pruned)
        for _ in range(2):
            if position + _MATRIX.size > len(data):
                raise _cut(path)
            packed, rows, columns = _MATRIX.unpack_from(data, position)
            position += _MATRIX.size
            if packed:
                return  # gensim refuses such models itself
            if rows < 0 or columns != width or position + 4 * rows * columns > len(data):
                raise _cut(path)
            position += 4 * rows * columns


def _cut(path: Path) -> SacmaError:
    return SacmaError(f"{path}: a fastText model that is damaged or cut short; get it again")
