"""Files of class vectors: both formats are read, and others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from official_folders import write_any
from sacma.errors import SacmaError
from sacma.text.vector_files import read_word_vectors


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_word_vectors(tmp_path: Path, name: str) -> None:
    write_any(tmp_path / name)
    words = read_word_vectors(tmp_path / name)
    assert list(words) == ["a", "b"]
    assert words["a"].dtype == np.float32
    np.testing.assert_array_equal(words["a"], np.ones(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 3)), "expected a saved dictionary"),
        (np.array([{"a": 1}], dtype=object), "expected a saved dictionary"),
        ({}, "expected vectors of one width"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "expected vectors of one width"),
        ({"a": np.zeros((2, 2))}, "expected vectors of one width"),
        ({"a": np.array([1, np.nan])}, "the vector of 'a' has NaN"),
    ],
)
def test_word_vectors_that_are_none(tmp_path: Path, content: Any, message: str) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(SacmaError, match=message):
        read_word_vectors(tmp_path / "a.npy")
