"""Class names with descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName, explained, read_class_names


def test_a_names_file_may_bring_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("erhu: Chinese fiddle, with two strings; bowed instrument\ndog barking\n")
    assert read_class_names(f"@{path}") == (
        ClassName("erhu", ("Chinese fiddle, with two strings", "bowed instrument")),
        ClassName("dog barking"),
    )


def test_names_from_a_text_or_a_list() -> None:
    assert read_class_names('harp, "bow, arrow"') == (ClassName("harp"), ClassName("bow, arrow"))
    assert read_class_names(["harp: plucked"]) == (ClassName("harp", ("plucked",)),)
    assert read_class_names("@harp", files=False) == (ClassName("@harp"),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "no class names"),
        (["harp", "Harp: plucked"], "there twice"),
        (["harp: "], "empty description"),
        (["harp: " + "x" * 401], "longer than 400"),
        ([3], "is no text"),
        ("@/no/such/file", "cannot read"),
    ],
)
def test_what_is_wrong_with_names(given: object, said: str) -> None:
    with pytest.raises(SacmaError, match=said):
        read_class_names(given)  # type: ignore[arg-type]


def test_the_glossary_explains_the_longest_term_in_a_name() -> None:
    assert explained("playing bass drum") != explained("drum")
    assert explained("playing_bass_drum") == explained("bass drum")
    assert explained("PlayingErhu") == explained("erhu")
    assert explained("hamsters running") == explained("hamster")
    assert explained("quark") == ()


def test_own_descriptions_replace_those_of_the_glossary() -> None:
    assert ClassName("erhu").texts == ("erhu", *explained("erhu"))
    assert ClassName("erhu", ("fiddle",)).texts == ("erhu", "fiddle")
    assert ClassName("PlayingErhu").texts[0] == "playing erhu"
