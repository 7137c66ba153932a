"""Prompts as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName
from sacma.frozen.prompts import prompted, templates


def test_the_published_sets_have_their_sizes_and_slips() -> None:
    seen, heard = (templates("clipclap-actions", heard=kind) for kind in (False, True))
    assert (len(seen), len(set(seen)), len(heard), len(set(heard))) == (48, 48, 30, 30)
    assert "a example of the person practicing {}." in seen
    assert {"a photo of a person {}.", "a video of the person during {}."} <= set(seen)
    assert "a person {} can be heard." in heard
    assert "the person {} can be heard." in heard
    assert "the person using {} can be heard." not in heard
    assert "a person during {} can be heard." not in heard
    assert "a demonstration of the person during {} can be heard." in heard
    seen, heard = (templates("clipclap-sounds", heard=kind) for kind in (False, True))
    assert (len(set(seen)), len(set(heard))) == (8, 9)
    assert "a photo of the person {}." in seen
    assert "a video of the {}." in seen
    assert "a photo of the {}." not in seen
    assert "a example of the {} can be heard." in heard


def test_own_prompts_and_descriptions(tmp_path: Path) -> None:
    name = ClassName("PlayingHarp", ("a plucked instrument",))
    assert prompted(name, "plain", ("video",)) == ("playing harp", "a plucked instrument")
    assert prompted(name, "the sound of {}.|{}", ("audio",)) == (
        "the sound of playing harp.",
        "playing harp",
        "the sound of a plucked instrument.",
        "a plucked instrument",
    )
    path = tmp_path / "prompts.txt"
    path.write_text("a film of {}\n\n{}, seen\n")
    assert prompted(ClassName("harp"), f"@{path}", ("video",)) == ("a film of harp", "harp, seen")


@pytest.mark.parametrize("prompts", ["", "no name", "{}|none", "@/no/such/file"])
def test_what_is_no_prompt(prompts: str) -> None:
    with pytest.raises(SacmaError, match=r"prompts|cannot read"):
        prompted(ClassName("harp"), prompts, ("video",))
