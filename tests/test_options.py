"""Options of a dataclass with another one inside: flat by name, in the order of the fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pytest

from sacma.errors import SacmaError
from sacma.models.configs.sequences import PublishedQuirks
from sacma.models.sacma import SACMA
from sacma.options import (
    check_choices,
    from_options,
    inner_sections,
    options_of,
    to_options,
)

WIDTHS = {"audio_width": 3, "video_width": 4, "text_width": 5}


@dataclass(frozen=True, kw_only=True)
class Inner:
    colour: Literal["red", "blue"] = "red"
    size: int = 2

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Outer:
    first: float
    inner: Inner = Inner()
    last: str = "end"


def test_inner_options_stand_in_the_place_of_their_field() -> None:
    assert list(options_of(Outer)) == ["first", "colour", "size", "last"]
    assert options_of(Outer)["size"] == (int, 2)
    assert inner_sections(Outer) == {"inner": Inner}


def test_options_make_the_dataclass_that_they_came_from() -> None:
    made = from_options(Outer, {"size": 7, "first": 1.5})
    assert made == Outer(first=1.5, inner=Inner(size=7))
    assert to_options(made) == {"first": 1.5, "colour": "red", "size": 7, "last": "end"}
    assert list(to_options(made)) == list(options_of(Outer))


@pytest.mark.parametrize("options", [{"first": 1.0, "weight": 2}, {}, {"first": 1.0, "inner": Inner()}])
def test_options_that_are_unknown_or_missing(options: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        from_options(Outer, options)


def test_a_value_that_is_no_choice() -> None:
    with pytest.raises(SacmaError, match="colour is 'green'; it must be one of red, blue"):
        from_options(Outer, {"first": 1.0, "colour": "green"})


def test_quirks_of_sacma_are_options_among_the_others() -> None:
    method = SACMA(**WIDTHS, projections="shared", averaged_stream=True)
    assert method.config.quirks == PublishedQuirks(projections="shared", averaged_stream=True)
    names = list(options_of(SACMA.Config))
    assert names.index("same_class") + 1 == names.index("projections")
    assert names.index("extra_train_forward") + 1 == names.index("audio_attention")
    assert "quirks" not in to_options(method.config)
    assert to_options(replace(method.config, quirks=PublishedQuirks()))["projections"] == "separate"
    with pytest.raises(SacmaError, match="quirks"):
        SACMA(**WIDTHS, quirks=PublishedQuirks())
