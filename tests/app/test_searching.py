"""The tab that searches a library."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("jinja2")

from sacma.app import searching as module
from sacma.app.searching import LONGEST_QUERY, MODALITIES, Searching
from sacma.app.uploads import Uploads
from sacma.errors import SacmaError
from sacma.library.search import Moment


@pytest.fixture
def searching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searching:
    asked: list[Any] = []
    opened = threading.get_ident()

    def search(text: str, *, top: int, modality: str | None) -> list[Moment]:
        asked.append((text, modality))
        assert threading.get_ident() == threads[0] != opened  # as SQLite asks for
        if text == "bad":
            raise SacmaError("/clips/x.library: no clips in it; add some with: sacma index CLIPS --out x")
        status = {"/clips/<b>.mp4": "", "/clips/b.mkv": "", "/clips/c.mp4": "gone"}
        return [Moment(path, 62.5, 66.5, 0.9, "dog", one) for path, one in status.items()][:top]

    threads: list[int] = []

    def open_library(path: Path) -> Any:
        threads.append(threading.get_ident())
        return SimpleNamespace(search=search, asked=asked, clips=[path])

    monkeypatch.setattr(module, "open_library", open_library)
    return Searching(tmp_path / "clips.library", Uploads(tmp_path / "uploads"))


def test_what_is_found_can_be_played_and_nothing_else(searching: Searching) -> None:
    assert not searching.uploads.known("/clips/<b>.mp4")
    html = searching.answer("a dog", "Sound")
    library: Any = searching._library
    assert len(searching) == 1
    assert library.asked == [("a dog", "audio")]
    assert "<b>" not in html
    assert html.count("<video") == 1
    assert 'data-seek="62.50"' in html
    assert "1:02.5" in html
    assert "the file is gone" in html
    assert [searching.uploads.known(f"/clips/{name}") for name in ("<b>.mp4", "b.mkv", "c.mp4")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "by", "said"),
    [
        (" ", "Sound", "Write what you look for"),
        ("x" * (LONGEST_QUERY + 1), "Sound", "write fewer"),
        ("dog", "Smell", "write fewer"),
        ("bad", next(iter(MODALITIES)), "no clips in it"),
    ],
)
def test_mistakes_are_told(searching: Searching, text: str, by: str, said: str) -> None:
    html = searching.answer(text, by)
    assert said in html
    assert "sx-error" in html
