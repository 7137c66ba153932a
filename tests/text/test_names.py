"""Class names as people give them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacma.errors import SacmaError
from sacma.text.names import LONGEST_NAME, MOST_NAMES, Spelling, check_distinct, normal, read_names


def test_csv_with_quoted_commas_and_spaces_around() -> None:
    assert read_names('archery,  "race car, auto racing" , playing flute') == (
        "archery",
        "race car, auto racing",
        "playing flute",
    )


def test_lines_are_names_too() -> None:
    assert read_names("dog\ncat, bird\n") == ("dog", "cat", "bird")


def test_a_file_has_one_name_a_line(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffdog, barking\n\n  cat \r\nEule\n".encode())
    assert read_names(f"@{file}") == ("dog, barking", "cat", "Eule")


def test_text_from_strangers_opens_no_file(tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("secret\n")
    assert read_names(f"@{file}", files=False) == (f"@{file}",)


def test_ten_thousand_names_are_taken() -> None:
    names = [f"name {number}" for number in range(10_000)]
    assert read_names(names) == tuple(names)
    assert read_names(",".join(names)) == tuple(names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "no class names"),
        ("  \n ", "no class names"),
        ([], "no class names"),
        ("dog,,cat", "class name 2 is ''"),
        (["dog", " "], "class name 2 is ''"),
        ("dog, --", "needs at least one letter"),
        ("dog, cat, dog", "'dog' is there twice"),
        ("PlayingFlute, playing flute", "(as 'PlayingFlute')"),
        (["dog", 7], "7 is no text"),
        ("x" * (LONGEST_NAME + 1), "longer than"),
        ([str(n) for n in range(MOST_NAMES + 1)], "at most 100,000"),
        ('"dog', "not closed"),
        ("@nowhere.txt", "nowhere.txt"),
    ],
)
def test_what_is_no_list_of_names_is_one_error(given: object, said: str) -> None:
    with pytest.raises(SacmaError) as caught:
        read_names(given)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_file_that_is_no_text_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "binary", tmp_path):
        with pytest.raises(SacmaError, match="cannot read a list of class names"):
            read_names(f"@{path}")


SAME = [
    ("PlayingFlute", "playing_flute", " Playing  flute ", "playing-flute"),
    ("YoYo", "yoyo", "Yo-Yo", "yo yo"),
    ("iPhone", "iphone", "IPHONE"),
    ("caf\u00e9", "cafe\u0301", "CAF\u00c9"),
    ("Stra\u00dfe", "STRASSE"),
    ("\u2764\ufe0f", "\u2764"),
    ("bow-wow", "bow wow", "bow\u200bwow"),
]
DIFFERENT = [
    ("YoYo", "Yo"),
    ("C", "C++", "C#", "C+"),
    ("\u0915\u093f", "\u0915\u0940", "\u0915"),  # Hindi: one consonant with two vowel signs and without
    ("\U0001f3b8", "\U0001f941", "\U0001f3b8\U0001f941"),
    ("room 1-2", "room 12"),
    ("cafe", "caf\u00e9"),
]


@pytest.mark.parametrize("names", SAME)
def test_spellings_of_one_class(names: tuple[str, ...]) -> None:
    assert len({normal(name) for name in names}) == 1
    assert {Spelling(["other", names[0]]).find(name) for name in names} == {names[0]}
    for name in names[1:]:
        with pytest.raises(SacmaError, match=r"lists: .* are one class in two spellings"):
            check_distinct(["other", names[0], name], "lists")
        with pytest.raises(SacmaError, match="there twice"):
            read_names([names[0], name])


@pytest.mark.parametrize("names", DIFFERENT)
def test_names_of_different_classes(names: tuple[str, ...]) -> None:
    assert len({normal(name) for name in names} - {""}) == len(names)
    check_distinct(names, "lists")
    assert [Spelling(names).find(name) for name in names] == list(names)


def test_names_with_one_form_are_found_as_they_are_written_only() -> None:
    spelling = Spelling(["Dog", "dog", "cat"])
    assert [spelling.find(name) for name in ("Dog", "dog", "DOG", "Cat")] == ["Dog", "dog", None, "cat"]


def test_a_name_needs_something_that_counts() -> None:
    for name in ("--", " ", "?!", ""):
        assert normal(name) == ""
        with pytest.raises(SacmaError, match="at least one letter"):
            check_distinct([name], "lists")


@given(st.text())
def test_the_form_of_a_form_is_itself(name: str) -> None:
    assert normal(normal(name)) == normal(name)
