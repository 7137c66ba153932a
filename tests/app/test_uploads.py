"""Uploads: each its own file, asked about by one session, gone when it is no longer needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sacma.app.uploads import Uploads, page_folder, plain_name
from sacma.errors import SacmaError


def put(uploads: Uploads, name: str = "clip.mp4", content: bytes = b"same") -> Path:
    path = uploads.place(name)
    path.write_bytes(content)
    return path


def test_equal_clips_of_two_visitors_are_two_files(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    one, other = put(uploads), put(uploads)
    assert one != other
    uploads.take(str(one), "A")
    uploads.drop("A")
    assert not one.parent.exists()
    assert uploads.take(str(other), "B").read_bytes() == b"same"


def test_only_the_session_that_asked_first_may_ask(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    clip = put(uploads)
    assert uploads.take(str(clip), "A") == clip
    for path in (str(clip), "/etc/passwd", str(clip.parent), "http://127.0.0.1/x.mp4", ""):
        with pytest.raises(SacmaError, match="no longer here"):
            uploads.take(path, "B")
    shared = tmp_path / "example.mp4"
    uploads.shared.add(shared)
    assert uploads.take(str(shared), "A") == uploads.take(str(shared), "B") == shared
    uploads.drop("A")
    assert uploads.known(str(shared))


def test_a_new_clip_replaces_the_old_one_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(tmp_path / "uploads", most=2)
    first, second = put(uploads), put(uploads)
    with pytest.raises(SacmaError, match="too many clips"):
        uploads.place("third.mp4")
    sized = Uploads(tmp_path / "sized", most_bytes=100)
    sized.place("a.mp4", size=60)
    with pytest.raises(SacmaError, match="too many clips"):
        sized.place("b.mp4", size=60)
    uploads.take(str(first), "A")
    uploads.take(str(second), "A")
    uploads.drop("A", keep=[second])
    assert not first.exists()
    now = __import__("time").monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 100)
    uploads.sweep(200)
    assert second.exists()
    uploads.sweep(50)
    assert not second.exists()
    assert not uploads.known(str(second))


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("", "clip"),
        ("...", "clip"),
        ("../../etc/passwd", "passwd"),
        ("C:\\clips\\a b.MP4", "a b.MP4"),
        ("a?b#c%d\0e\n.mp4", "a_b_c_d_e_.mp4"),
        ("übung 日本.mp4", "übung 日本.mp4"),
        ("é" * 300 + ".mp4", "é" * 48 + ".mp4"),
        ("a." + "b" * 300, "a." + "b" * 11),
    ],
)
def test_names_of_files_are_made_plain(given: str, plain: str) -> None:
    assert plain_name(given) == plain


def test_the_folder_of_a_killed_page_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    program = (
        "import time; from sacma.app.uploads import page_folder\n"
        "with page_folder() as folder:\n"
        "    (folder / 'clip.mp4').write_text('x'); print(folder, flush=True); time.sleep(100)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    folders = [Path(process.stdout.readline().strip()) for process in started if process.stdout]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    (tmp_path / "sacma-page-link").symlink_to(elsewhere)
    try:
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        assert (folders[0] / "clip.mp4").exists()
        with page_folder() as mine:
            assert not folders[0].exists()
            assert (folders[1] / "clip.mp4").exists()  # its page is still there
            assert (elsewhere / "kept").exists()
            if os.name == "posix":
                assert mine.stat().st_mode & 0o077 == 0
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
    assert not mine.exists()
    with page_folder():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "sacma-page-link"]
