"""Moments, windows and stretches of a clip."""

from __future__ import annotations

import pytest

from sacma.app.timeline import COLOURS, stretches, window_of
from sacma.app.times import seconds_of, shown
from sacma.errors import SacmaError
from sacma.predict import Answer, Window


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
    assert window_of(19.9, 1.0) is None
    assert window_of(20.0, 1.0) == 10.0
    assert window_of(30.0, 20.0) is None
    assert window_of(50.0, 20.0) == 20.0


def test_stretches_meet_between_the_middles_of_windows() -> None:
    names = ["a", "a", "b", *(f"c{k}" for k in range(COLOURS))]
    windows = [Window(5.0 * k, 5.0 * k + 10, (Answer(n, 0.5, False),), {}, None) for k, n in enumerate(names)]
    found = stretches(windows)
    assert [(one.name, one.start, one.end) for one in found][:2] == [("a", 0.0, 12.5), ("b", 12.5, 17.5)]
    assert found[-1].end == windows[-1].end
    assert sum(one.width for one in found) == pytest.approx(100)
    assert [one.colour for one in found][-2:] == [COLOURS - 1, COLOURS - 1]
    assert found[0].clock == "0:00 to 0:12.5"
