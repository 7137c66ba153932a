"""Words of AV-Shapes and the class vectors that follow from them."""

from __future__ import annotations

import numpy as np
import pytest

from sacma.errors import SacmaError
from sacma.text.avshapes_words import WORDS, class_vector, class_words, word_code


def test_class_vectors_are_sums_of_word_codes() -> None:
    codes = np.stack([word_code(word) for word in WORDS])
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-6)
    assert np.abs(codes @ codes.T - np.eye(len(codes))).max() < 0.5
    # printf 'AV-Shapes circle' | sha256sum  begins with 27, in bits 0010 0111.
    assert "".join("-+"[bit] for bit in (word_code("circle")[:8] > 0).astype(int)) == "--+--+++"
    name = "bar circling ringing paired together"
    expected = sum(word_code(word) for word in name.split())
    np.testing.assert_allclose(class_vector(name), expected / np.linalg.norm(expected), rtol=1e-6)


def test_names_of_other_words_are_refused() -> None:
    words = ["bar", "circling", "ringing", "paired", "apart"]
    assert class_words(" ".join(words)) == words
    with pytest.raises(SacmaError, match="is no AV-Shapes class"):
        class_words("bar circling ringing paired")
    with pytest.raises(SacmaError, match="is no AV-Shapes class"):
        class_vector("circling bar ringing paired apart")
