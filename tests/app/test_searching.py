"""The tab that searches a library."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("jinja2")

from sacma.app import searching as module
from sacma.app.playable import player_of
from sacma.app.searching import LONGEST_QUERY, MODALITIES, Searching
from sacma.app.uploads import Uploads
from sacma.errors import SacmaError
from sacma.library.search import Found, Moment
from sacma.media.decode import Limits


@pytest.fixture
def searching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searching:
    asked: list[Any] = []
    opened = threading.get_ident()

    def search(text: str | None, *, top: int, modality: str | None, like: Path | None = None) -> Found:
        asked.append((text, modality) if like is None else (text, modality, like.name))
        assert threading.get_ident() == threads[0] != opened  # as SQLite asks for
        if like is not None and like.name == "bad.mp4":
            raise SacmaError(f"{like}: not a media file")
        if text == "bad":
            raise SacmaError("/clips/x.library: no clips in it; add some with: sacma index CLIPS --out x")
        status = {"/clips/<b>.mp4": "", "/clips/b.mkv": "", "/clips/c.mp4": "gone"}
        moments = [Moment(path, 62.5, 66.5, 0.9, "dog", one) for path, one in status.items()][:top]
        return Found(moments, fits=text != "a unicorn")

    threads: list[int] = []

    def open_library(path: Path, *, limits: Limits) -> Any:
        threads.append(threading.get_ident())
        if path.name == "none":
            raise SacmaError(f"{path}: no library there")
        return SimpleNamespace(search=search, asked=asked, clips=[path], path=path, close=lambda: None)

    monkeypatch.setattr(module, "open_library", open_library)
    return Searching(tmp_path / "clips.library", Uploads(tmp_path / "uploads"), opens=True)


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


def test_it_is_said_where_nothing_fits(searching: Searching) -> None:
    assert "Nothing fits well" not in searching.answer("a dog", "Sound")
    assert "Nothing fits well" in searching.answer("a unicorn", "Sound")


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


def test_an_example_is_the_visitors_own_upload(searching: Searching) -> None:
    by = next(iter(MODALITIES))
    upload = searching.uploads.place("bark.wav")
    upload.write_bytes(b"sound")
    searching.claim(str(upload), "ann")
    html = searching.answer("", by, str(upload), "ann")
    library: Any = searching._library
    assert library.asked == [(None, None, "bark.wav")]
    assert "like bark.wav" in html
    assert "rain, like bark.wav" in searching.answer(" rain ", by, str(upload), "ann")
    assert "no longer here" in searching.answer("", by, str(upload), "bob")
    assert "no longer here" in searching.answer("", by, "/etc/passwd", "ann")
    assert len(library.asked) == 2
    searching.drop("ann")
    assert not upload.exists()


def test_a_bad_example_is_told_without_its_secret_folder(searching: Searching) -> None:
    upload = searching.uploads.place("bad.mp4")
    html = searching.answer("", next(iter(MODALITIES)), str(upload), "ann")
    assert "bad.mp4" in html
    assert upload.parent.name not in html


def test_a_clip_of_the_library_can_be_asked_about(searching: Searching, tmp_path: Path) -> None:
    library: Any = searching._library
    paths = [tmp_path / name for name in ("a/x.mp4", "b/x.mp4", "a/film.mkv", "gone.mp4")]
    for path in paths[:3]:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a clip")
    library.clips = [SimpleNamespace(path=path) for path in paths]
    assert searching.clip(" film.mkv ") == str(paths[2])
    assert searching.uploads.take(str(paths[2]), "anybody") == paths[2]
    assert player_of(paths[2], searching.uploads, Limits(), pictures=True) is None
    assert sorted(tmp_path.glob("a/*")) == [paths[2], paths[0]]  # no copy for browsers beside it
    assert searching.clip(str(paths[1])) == str(paths[1])
    for named, said in (("x.mp4", "2 clips"), ("/etc/passwd", "No clip passwd"), ("gone.mp4", "no longer")):
        with pytest.raises(SacmaError, match=said):
            searching.clip(named)
    assert not searching.uploads.known("/etc/passwd")


def test_another_library_is_opened_by_its_path(searching: Searching, tmp_path: Path) -> None:
    assert "1 clips can be searched" in searching.open(f" '{tmp_path / 'other'}' ")
    assert searching.folder == str(tmp_path / "other")
    assert "no library there" in searching.open(str(tmp_path / "none"))
    assert searching.folder == str(tmp_path / "other")  # the one before stays
    for path in (" ", "a\0b", "x" * 5000):
        assert "Write the folder" in searching.open(path)
    searching.opens = False
    assert "Write the folder" in searching.open(str(tmp_path / "third"))


def test_without_a_library_one_is_asked_for(tmp_path: Path) -> None:
    empty = Searching(None, Uploads(tmp_path / "uploads"), opens=True)
    assert len(empty) == 0
    assert "Open a library first" in empty.answer("rain", next(iter(MODALITIES)))
