"""Archives are unpacked whole or not at all, and never outside their folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from sacma.data.fetching import ByteProgress
from sacma.data.unpacking import extract_zip
from sacma.errors import SacmaError


def zipped(path: Path, entries: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return path


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"UCF/": b"", "UCF/x/one.txt": b"1", "two.txt": b"22"})
    seen: list[ByteProgress] = []
    out = extract_zip(archive, tmp_path / "out", on_progress=seen.append)
    assert (out / "UCF" / "x" / "one.txt").read_bytes() == b"1"
    assert (out / "two.txt").read_bytes() == b"22"
    assert (seen[-1].done, seen[-1].total) == (3, 3)


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", b"x")],
        [("fine/../../evil", b"x")],
        [("/evil", b"x")],
        [("C:/evil", b"x")],
        [("..\\evil", b"x")],
        [("fine", b"x"), (link("escape"), b"/etc"), ("escape/evil", b"x")],
    ],
)
def test_an_archive_that_reaches_outside_is_refused_whole(
    tmp_path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]]
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    archive = zipped(tmp_path / "a.zip", entries)
    with pytest.raises(SacmaError, match="is refused"):
        extract_zip(archive, inside / "out")
    assert list(inside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "inside"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", [("a", b"1"), ("a", b"2")])
    with pytest.raises(SacmaError, match="twice"):
        extract_zip(archive, tmp_path / "out")


def test_an_archive_larger_than_the_disk_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "bomb.zip", {"zeros": bytes(10_000_000)})
    content = bytearray(archive.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24  # the declared size in the central directory
    content[place : place + 4] = (0xFFFFFFFE).to_bytes(4, "little")
    many = tmp_path / "many.zip"
    many.write_bytes(content)
    room = shutil._ntuple_diskusage(10**9, 0, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(SacmaError, match="free some space"):
        extract_zip(many, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"<!DOCTYPE html><html>gone</html>", "web page"),
        (b"", "not a zip"),
        (b"PK\x03\x04 and then nothing", "not a zip"),
    ],
)
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes, word: str) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(content)
    with pytest.raises(SacmaError, match=word):
        extract_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"first": b"fine", "second": bytes(range(256)) * 100})
    content = bytearray(archive.read_bytes())
    content[content.index(b"second") + 40] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(SacmaError, match="download it again"):
        extract_zip(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a": b"1"})
    out = tmp_path / "out"
    out.mkdir()
    extract_zip(archive, out)  # an empty one is fine
    (out / "mine").write_text("kept")
    with pytest.raises(SacmaError, match="exists already"):
        extract_zip(archive, out)
    assert (out / "mine").read_text() == "kept"
