"""Words and class vectors of AV-Shapes, the embedded benchmark.

A class name is five words, one of each kind, such as "circle bouncing humming paired together". Each word
has a fixed code. A class vector is the normalised sum of the codes of its words, so that an unseen class is a
new combination of known words. ``docs/explanation/avshapes.md`` has the whole definition.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, printable

NAME = "avshapes"
VERSION = "1"
"""The version of AV-Shapes. Any change of a word, a class vector, a picture, a sound or a list raises it."""

SHAPES = ("circle", "square", "triangle", "star", "bar")
MOTIONS = ("bouncing", "sliding", "spinning", "pulsing", "circling")
TIMBRES = ("humming", "buzzing", "ringing", "hissing", "chirping")
RHYTHMS = ("steady", "paired", "galloping", "scattered")
BINDINGS = ("together", "apart")
WORDS = (*SHAPES, *MOTIONS, *TIMBRES, *RHYTHMS, *BINDINGS)
TEXT_WIDTH = 64
"""Numbers of a class vector."""
TEXT_PROVENANCE = {"encoder": NAME, "version": VERSION}
"""Describes the encoder for ``sacma.text.encoders.open_encoder``."""


def class_words(class_name: str) -> list[str]:
    """Return the five words of a class name: shape, motion, timbre, rhythm and binding.

    Raises:
        SacmaError: the name is not made of one word of each kind.
    """
    words = class_name.split(" ")
    kinds = (SHAPES, MOTIONS, TIMBRES, RHYTHMS, BINDINGS)
    if len(words) != len(kinds) or any(word not in kind for word, kind in zip(words, kinds, strict=True)):
        raise SacmaError(
            f"{printable(class_name)} is no AV-Shapes class; expected one word each of "
            + "; ".join(", ".join(kind) for kind in kinds)
        )
    return words


def word_code(word: str) -> NDArray[np.float32]:
    """Return the (64,) code of a word: the first 64 bits of SHA-256 of "AV-Shapes <word>", as 1/8 or -1/8."""
    digest = hashlib.sha256(f"AV-Shapes {word}".encode()).digest()[: TEXT_WIDTH // 8]
    bits = np.unpackbits(np.frombuffer(digest, np.uint8))
    return ((2.0 * bits - 1.0) / np.sqrt(TEXT_WIDTH)).astype(np.float32)


def class_vector(class_name: str) -> NDArray[np.float32]:
    """Return the (64,) vector of a class: the sum of the codes of its five words, scaled to length 1.

    Raises:
        SacmaError: as ``class_words``.
    """
    total = np.sum([word_code(word) for word in class_words(class_name)], axis=0)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)
