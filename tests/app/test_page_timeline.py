"""Moments, windows and stretches of a clip."""

from __future__ import annotations

import pytest

from sacma.app.timeline import COLOURS, stretches, window_of
from sacma.app.times import seconds_of, shown
from sacma.errors import SacmaError
from sacma.predict import Segment


@pytest.mark.parametrize("text", ["x", "1:", "-1", "1:2:3:4", "1e3", "nan", "١", "9" * 50])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(SacmaError, match=r"Start is .*write seconds"):
        seconds_of(text, "Start")


def test_moments_there_and_back() -> None:
    for seconds in (0.0, 3.5, 59.9, 75.0, 3600.0, 3725.0):
        assert seconds_of(shown(seconds), "End") == seconds
    assert seconds_of("1,5", "End") == 1.5
    assert shown(59.96) == "1:00"


def test_short_clips_are_not_cut() -> None:
    assert window_of(11.9, 1.0) is None
    assert window_of(12.0, 1.0) == 4.0
    assert window_of(30.0, 20.0) is None
    assert window_of(50.0, 20.0) == 20.0


def test_stretches_fill_the_strip_and_names_keep_their_colour() -> None:
    names = ["a", "b", "a", *(f"c{k}" for k in range(COLOURS))]
    course = [Segment(10 + 5.0 * k, 15 + 5.0 * k, name, 0.5) for k, name in enumerate(names)]
    found = stretches(course)
    assert found[0].left == 0
    assert found[-1].left + found[-1].width == pytest.approx(100)
    assert [one.colour for one in found][:3] == [0, 1, 0]
    assert [one.colour for one in found][-2:] == [COLOURS - 1, COLOURS - 1]
    assert found[0].clock == "0:10 to 0:15"
    assert stretches([]) == ()
