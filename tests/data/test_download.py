"""Archives of features: their addresses, and folders that an archive leaves."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from download_server import Remote, Server
from sacma.data import download
from sacma.data.download import Archive, read_archives
from sacma.errors import SacmaError


def addresses(path: Path, **entry: object) -> Path:
    path.write_text(json.dumps({"ucf": {"selavi": entry}}))  # JSON is YAML
    return path


def archive_bytes(*names: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return memory.getvalue()


def test_the_published_archives_have_an_address_each() -> None:
    archives = read_archives()
    assert set(archives) == {"ucf", "vggsound", "activitynet"}
    for benchmark, entries in archives.items():
        assert len(entries["selavi"].urls) == len(entries["c3d-vggish"].urls) == 1
        assert f"{benchmark}-selavi" in entries["selavi"].urls[0]
        assert f"{benchmark}-supervised" in entries["c3d-vggish"].urls[0]


def test_a_users_file_replaces_single_entries(tmp_path: Path) -> None:
    mine = addresses(tmp_path / "mine.yaml", urls=["https://example.org/a.zip"], sha256="AB" * 32)
    archives = read_archives(mine)
    assert archives["ucf"]["selavi"] == Archive(("https://example.org/a.zip",), "ab" * 32)
    assert archives["ucf"]["c3d-vggish"] == read_archives()["ucf"]["c3d-vggish"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("- a\n- b", "benchmark"),
        ("ucf: 3", "ucf"),
        ("ucf: {selavi: {urls: http://a}}", "list"),
        ("ucf: {selavi: {urls: [file:///etc/passwd]}}", "http"),
        ("ucf: {selavi: {urls: [], sha256: abc}}", "64"),
        ("ucf: {selavi: {url: []}}", "expected urls"),
        ("ucf: [", "not readable YAML"),
        ("!!python/object/apply:os.getcwd []", "not readable YAML"),
    ],
)
def test_a_users_file_that_is_wrong_is_told(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SacmaError, match=word) as caught:
        read_archives(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(caught.value)


def test_a_benchmark_is_fetched_unpacked_and_looked_through(server: Server, tmp_path: Path) -> None:
    parts = [f"features/main_features_non_averaged/{name}/x" for name in ("audio", "video")]
    content = archive_bytes(*(f"wrapped/UCF/{part}" for part in (*parts, "class-split/all_class.txt")))
    server.files["ucf.zip"] = Remote(content=content)
    where = addresses(tmp_path / "where.yaml", urls=[server.url("ucf.zip")])
    got = download.download("ucf", "selavi", tmp_path / "out", addresses=where)
    assert got.root == tmp_path / "out" / "ucf-selavi" / "wrapped" / "UCF"
    assert got.missing == (
        "class-split/*_split",
        "class-split/*_w2v_class_names.csv",
        "features/main_features_non_averaged/text",
    )
    assert not got.verified
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ucf-selavi"]
    assert download.download("ucf", "selavi", tmp_path / "out", addresses=where) == got
    assert len(server.requests) == 1


def test_an_archive_with_something_else_is_told_as_all_missing(server: Server, tmp_path: Path) -> None:
    content = archive_bytes("readme.txt", "deep/er/file")
    server.files["ucf.zip"] = Remote(content=content)
    checksum = hashlib.sha256(content).hexdigest()
    where = addresses(tmp_path / "where.yaml", urls=[server.url("ucf.zip")], sha256=checksum)
    got = download.download("ucf", "selavi", tmp_path / "out", addresses=where)
    assert got.root == tmp_path / "out" / "ucf-selavi"
    assert len(got.missing) == 6
    assert got.verified


def test_an_archive_put_there_by_hand_needs_no_address(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match=r"no address.*ucf-averaged\.zip"):
        download.download("ucf", "averaged", tmp_path)
    content = archive_bytes("UCF/features/main_features/audio/x", "UCF/features/main_features/video/x")
    (tmp_path / "ucf-averaged.zip").write_bytes(content)
    got = download.download("ucf", "averaged", tmp_path)
    assert got.root == tmp_path / "ucf-averaged" / "UCF"
    assert "features/*/text" in got.missing
    assert "features/*/audio" not in got.missing


def test_an_unknown_archive_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="ucf, vggsound, activitynet"):
        download.download("kinetics", "selavi", tmp_path)
    with pytest.raises(SacmaError, match="selavi, c3d-vggish, averaged"):
        download.download("ucf", "clip-clap", tmp_path)
