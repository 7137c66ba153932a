"""Class names as people give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacma.errors import SacmaError
from sacma.text.names import LONGEST_NAME, MOST_NAMES, normal, read_names


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
        with pytest.raises(SacmaError, match="cannot be read as a list"):
            read_names(f"@{path}")


def test_names_are_compared_by_their_words() -> None:
    assert normal("PlayingFlute") == normal("playing_flute") == normal(" Playing  flute ") == "playing flute"
    assert normal("YoYo") != normal("Yo")
