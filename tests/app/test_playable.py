"""Clips in containers that browsers do not play."""

from __future__ import annotations

from pathlib import Path

import pytest

from sacma.app.playable import player_of
from sacma.app.uploads import Uploads
from sacma.media.decode import LIMITS, Clip

pytest.importorskip("av")

from clip_files import write_clip


def test_a_container_that_browsers_do_not_know_is_copied(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    upload = uploads.place("my film.mkv")
    write_clip(upload, seconds=2.0, codec="libx264")
    player = player_of(upload, uploads, LIMITS, pictures=True)
    assert player is not None
    copy = upload.with_name("my film-preview.mp4")
    assert player.address == f"/gradio_api/file={copy}".replace(" ", "%20")
    assert uploads.known(str(copy))
    before, after = Clip.open(upload), Clip.open(copy)
    assert after.seconds == pytest.approx(before.seconds or 0, abs=0.2)
    assert len(list(after.frames(rate=5))) == pytest.approx(len(list(before.frames(rate=5))), abs=1)
    uploads.discard(upload)
    assert not uploads.known(str(copy))
    assert not copy.exists()


def test_what_browsers_play_is_played_as_it_is(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    upload = uploads.place("a.mp4")
    player = player_of(upload, uploads, LIMITS, pictures=False)
    assert player is not None
    assert player.address.endswith("/a.mp4")
    assert not player.pictures


def test_a_damaged_file_has_no_player(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    upload = uploads.place("a.mkv")
    upload.write_bytes(b"no film")
    assert player_of(upload, uploads, LIMITS, pictures=True) is None
    assert [path.name for path in upload.parent.iterdir()] == ["a.mkv"]
