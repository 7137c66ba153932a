"""Windows over a clip."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from sacma.errors import SacmaError
from sacma.media.backbones import Steps
from sacma.predict.windows import (
    LONGEST,
    MOST_WINDOWS,
    cut_note,
    stands_for,
    steps_within,
    windows_of,
)


def test_a_clip_that_is_not_cut_is_one_window() -> None:
    assert windows_of(7.5, window=None, hop=None, least=1.0, clip="a") == [(0.0, 7.5)]


def test_windows_overlap_by_half_and_the_last_ends_with_the_clip() -> None:
    found = windows_of(9.0, window=4.0, hop=None, least=1.0, clip="a")
    assert found == [(0.0, 4.0), (2.0, 6.0), (4.0, 8.0), (6.0, 9.0)]


def test_a_window_longer_than_the_clip_ends_with_it() -> None:
    assert windows_of(2.0, window=10.0, hop=1.0, least=1.0, clip="a") == [(0.0, 2.0)]


def test_a_clip_that_is_too_long_for_one_is_cut_into_equal_windows() -> None:
    found = windows_of(LONGEST + 4, window=None, hop=None, least=1.0, clip="film.mp4")
    assert found[0] == (0.0, 304 / 30)
    assert len(found) == 30
    assert found[-1][1] == pytest.approx(304.0)
    assert all(one[1] == pytest.approx(other[0]) for one, other in pairwise(found))
    (note,) = cut_note(found, None)
    assert "cut into 30 windows of 10.1 s" in note
    assert cut_note(found, 10.0) == cut_note([(0.0, 7.5)], None) == []


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "said"),
    [
        (10.0, None, 1.0, "a hop of 1 s without a window"),
        (10.0, 0.5, None, "from 1 s (one step)"),
        (10.0, LONGEST + 1, None, "a window of 301 s"),
        (10.0, 2.0, 0.0, "it must be above 0"),
        (10.0, 2.0, float("nan"), "it must be above 0"),
        (1e6, 1.0, 1.0, f"at most {MOST_WINDOWS:,}"),
    ],
)
def test_numbers_out_of_range_are_refused(
    seconds: float, window: float | None, hop: float | None, said: str
) -> None:
    with pytest.raises(SacmaError) as caught:
        windows_of(seconds, window=window, hop=hop, least=1.0, clip="film.mp4")
    assert said in str(caught.value)


def test_an_answer_stands_for_the_middle_of_its_window() -> None:
    assert stands_for([(0.0, 9.0)]) == [(0.0, 9.0)]
    assert stands_for([(0.0, 4.0), (2.0, 6.0), (4.0, 7.0)]) == [(0.0, 3.0), (3.0, 4.75), (4.75, 7.0)]
    assert stands_for([(0.0, 2.0), (5.0, 7.0)]) == [(0.0, 2.0), (5.0, 7.0)]


@pytest.mark.parametrize("looks", [0.0, 0.5, 1.0, 1.5])
def test_what_a_window_sees_lies_around_its_middle(looks: float) -> None:
    """On average over where the window begins, whatever a step looks at."""
    moments = np.arange(100) * 0.5 + looks / 2
    steps = Steps(moments.astype(np.float32)[:, None], np.arange(100) * 0.5)
    starts = np.arange(10, 20, 0.05)
    for length in (2.0, 2.7):
        windows = [(start, start + length) for start in starts]
        found = steps_within(steps, windows, step_seconds=0.5, width=1, looks=looks)
        off = found.mean()[:, 0].numpy() - (starts + length / 2)
        assert abs(off.mean()) < 0.05
        assert np.abs(off).max() <= 0.26


def test_steps_belong_to_the_windows_in_which_their_middle_lies() -> None:
    values = np.arange(10, dtype=np.float32)[:, None]
    steps = Steps(values, np.arange(10) * 0.5)
    found = steps_within(steps, [(0.0, 2.0), (1.7, 3.0), (9.0, 9.5)], step_seconds=0.5, width=1)
    assert found.lengths.tolist() == [4, 3, 0]
    assert found.values[:, 0].tolist() == [0, 1, 2, 3, 3, 4, 5]
    assert found.seconds.tolist() == [0, 0.5, 1, 1.5, 0, 0.5, 1]  # from the start of the window
    assert found.longest == 4


def test_a_missing_modality_has_no_steps() -> None:
    found = steps_within(None, [(0.0, 1.0), (1.0, 2.0)], step_seconds=1.0, width=3)
    assert found.values.shape == (0, 3)
    assert torch.equal(found.lengths, torch.tensor([0, 0]))
