"""Downloads against a local server with its moods, and archives that mean harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sacma.data import download
from sacma.data.download import Archive, Progress, extract_zip, fetch, read_archives
from sacma.errors import SacmaError

CONTENT = bytes(range(256)) * 2000  # 512 000 bytes
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Remote:
    """One file on the server and how it is served."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    honours_if_range: bool = True
    says_length: bool = True
    drops: list[int] = field(default_factory=list)
    """For each of the first requests, the bytes after which the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """For the first requests, the status to answer with instead."""
    encoding: str | None = None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Remote] = {}
        self.requests: list[tuple[str, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        remote = self.server.files.get(self.path.lstrip("/"))
        if remote is None:
            self.send_error(404)
        elif remote.statuses:
            self.send_error(remote.statuses.pop(0))
        else:
            self._send(remote, asked)

    def _send(self, remote: Remote, asked: str | None) -> None:
        start = 0
        condition = self.headers.get("If-Range")
        fresh = condition is None or condition in (remote.etag, remote.modified)
        if asked and remote.ranges and (fresh or not remote.honours_if_range):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        size = len(remote.content)
        if start >= size and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if remote.says_length:
            self.send_header("Content-Length", str(size - start))
        for name, value in (
            ("ETag", remote.etag),
            ("Last-Modified", remote.modified),
            ("Content-Encoding", remote.encoding),
        ):
            if value:
                self.send_header(name, value)
        self.end_headers()
        end = start + remote.drops.pop(0) if remote.drops else size
        self.wfile.write(remote.content[start:end])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0,))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def leave_partial(target: Path, content: bytes, **facts: object) -> None:
    """What an earlier download that was killed leaves behind."""
    known = {"etag": '"one"', "modified": None, "total": len(CONTENT)} | facts
    Path(f"{target}.part").write_bytes(content)
    Path(f"{target}.part.json").write_text(json.dumps(known))


# --- One file -----------------------------------------------------------------------------------------


def test_a_file_arrives_with_progress_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote()
    seen: list[Progress] = []
    target = fetch([server.url("a")], tmp_path / "new" / "a.zip", sha256=CHECKSUM, on_progress=seen.append)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["a.zip"]
    assert (seen[-1].done, seen[-1].total, seen[-1].source) == (len(CONTENT), len(CONTENT), server.url("a"))


def test_a_dropped_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(drops=[200_000, 100_000])
    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=200000-", "bytes=300000-"]


def test_a_killed_download_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote()
    leave_partial(tmp_path / "a", CONTENT[:400_000])
    fetch([server.url("a")], tmp_path / "a", sha256=None)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges() == ["bytes=400000-"]


@pytest.mark.parametrize("honours", [True, False])
@pytest.mark.parametrize(
    "facts",
    [
        {"etag": '"zero"'},
        {"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
        {"etag": None, "modified": None, "total": len(CONTENT) + 1},
        {"etag": 'W/"weak"', "modified": None},
    ],
)
def test_a_file_that_changed_is_fetched_from_the_start(
    server: Server, tmp_path: Path, facts: dict[str, object], honours: bool
) -> None:
    server.files["a"] = Remote(modified="Tue, 02 Jan 2024 00:00:00 GMT", honours_if_range=honours)
    leave_partial(tmp_path / "a", b"x" * 400_000, **facts)
    fetch([server.url("a")], tmp_path / "a", sha256=None)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_beginning_of_unknown_origin_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote()
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    fetch([server.url("a")], tmp_path / "a", sha256=None)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges() == [None]


def test_a_bad_beginning_is_found_by_the_checksum_and_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote()
    leave_partial(tmp_path / "a", b"x" * 400_000)  # the right tag, other bytes
    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges() == ["bytes=400000-", None]


def test_a_beginning_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(content=b"short", etag=None)
    leave_partial(tmp_path / "a", b"x" * 400_000, etag=None)
    fetch([server.url("a")], tmp_path / "a", sha256=None)
    assert (tmp_path / "a").read_bytes() == b"short"


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(ranges=False, drops=[200_000])
    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=200000-"]


def test_a_server_that_always_drops_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(ranges=False, drops=[200_000] * 50)
    with pytest.raises(SacmaError, match=r"200000 bytes.* after 5 attempts"):
        fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM)
    assert len(server.requests) < 10
    assert not (tmp_path / "a").exists()


def test_a_server_that_does_not_say_the_length(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(says_length=False)
    seen: list[Progress] = []
    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM, on_progress=seen.append)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert seen[-1].total is None


def test_a_server_that_packs_although_not_asked_to(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(content=gzip.compress(CONTENT), encoding="gzip")
    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote(statuses=[503, 429, 500])
    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_the_next_address_serves_where_the_first_do_not(server: Server, tmp_path: Path) -> None:
    server.files["wrong"] = Remote(content=CONTENT[::-1], etag='"other"')
    server.files["right"] = Remote()
    urls = [server.url("absent"), server.url("wrong"), server.url("right")]
    fetch(urls, tmp_path / "a", sha256=CHECKSUM)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/absent", "/wrong", "/right"]


def test_when_nothing_works_one_line_names_each_address_and_its_reason(
    server: Server, tmp_path: Path
) -> None:
    server.files["wrong"] = Remote(content=b"something else")
    urls = [server.url("absent"), server.url("wrong"), "ftp://nowhere/a", "http://127.0.0.1:9/refused"]
    with pytest.raises(SacmaError) as caught:
        fetch(urls, tmp_path / "a", sha256=CHECKSUM)
    message = str(caught.value)
    assert all(url in message for url in urls)
    assert "404" in message
    assert CHECKSUM in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []
    assert server.requests.count(("/absent", None)) == 1  # a missing file is not asked for again


def test_a_file_that_is_there_is_kept_unless_its_checksum_is_wrong(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote()
    target = tmp_path / "a"
    target.write_bytes(b"kept")
    assert fetch([server.url("a")], target, sha256=None).read_bytes() == b"kept"
    assert server.requests == []
    assert fetch([server.url("a")], target, sha256=CHECKSUM.upper()).read_bytes() == CONTENT
    fetch([server.url("a")], target, sha256=CHECKSUM)
    assert len(server.requests) == 1


def test_a_full_disk_is_told_before_it_is_full(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a"] = Remote()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(SacmaError, match="free some space"):
        fetch([server.url("a"), server.url("a")], tmp_path / "a", sha256=None)
    assert len(server.requests) == 1


def test_two_downloads_to_one_place_do_not_mix(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    server.files["a"] = Remote()

    def again(_: Progress) -> None:
        with pytest.raises(SacmaError, match="another process"):
            fetch([server.url("a")], tmp_path / "a", sha256=None)

    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM, on_progress=again)
    assert (tmp_path / "a").read_bytes() == CONTENT


# --- Unpacking ----------------------------------------------------------------------------------------


def zipped(path: Path, entries: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return path


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"UCF/": b"", "UCF/x/one.txt": b"1", "two.txt": b"22"})
    seen: list[Progress] = []
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


# --- Benchmarks ---------------------------------------------------------------------------------------


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
        ("ucf: [", "not YAML"),
        ("!!python/object/apply:os.getcwd []", "not YAML"),
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
