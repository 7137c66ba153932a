"""Scores of windows and modalities."""

from __future__ import annotations

import numpy as np
import pytest

from sacma.frozen.scores import joined, mean_steps


def test_means_of_the_steps_that_begin_in_a_window() -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)  # steps at 0, 0.5, 1, 1.5 s
    means = mean_steps(values, 0.5, [(0, 1), (0.5, 2), (2, 3)])
    assert means[:2].tolist() == [[1, 2], [4, 5]]
    assert np.isnan(means[2]).all()
    within = mean_steps(values, 10, [(5, 9), (12, 15), (40, 41)])
    assert within[:2].tolist() == [[0, 1], [2, 3]]
    assert np.isnan(within[2]).all()


def test_a_window_without_a_modality_is_scored_by_the_other() -> None:
    nan = [np.nan, np.nan]
    alone = {"audio": np.array([[1.0, 3.0], nan]), "video": np.array([[5.0, 1.0], [2.0, 4.0]])}
    found = joined(alone, {"audio": 3.0, "video": 1.0})
    assert found == pytest.approx(np.array([[2.0, 2.5], [2.0, 4.0]]))
