"""Downloads of one file from a server with faults: continued, checked, or refused in one line."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from download_server import CHECKSUM, CONTENT, Remote, Server
from sacma.data.fetching import ByteProgress, fetch
from sacma.errors import SacmaError


def leave_partial(target: Path, content: bytes, **facts: object) -> None:
    """What an earlier download that was killed leaves behind."""
    known = {"etag": '"one"', "modified": None, "total": len(CONTENT)} | facts
    Path(f"{target}.part").write_bytes(content)
    Path(f"{target}.part.json").write_text(json.dumps(known))


def test_a_file_arrives_with_progress_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    server.files["a"] = Remote()
    seen: list[ByteProgress] = []
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
    seen: list[ByteProgress] = []
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

    def again(_: ByteProgress) -> None:
        with pytest.raises(SacmaError, match="another process"):
            fetch([server.url("a")], tmp_path / "a", sha256=None)

    fetch([server.url("a")], tmp_path / "a", sha256=CHECKSUM, on_progress=again)
    assert (tmp_path / "a").read_bytes() == CONTENT
