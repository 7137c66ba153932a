"""What the guard lets through to the page: hosts, origins, addresses, sizes, and requests to the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

import asyncio

import httpx

from sacma.app.guard import LONGEST_BODY, MOST_CLIPS, Guard
from sacma.app.uploads import Uploads

MOST = 1000


class Page:
    """A guard around an application that writes down what gets to it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.uploads = Uploads(folder / "uploads", most=3)
        self.asked: list[tuple[str, bytes]] = []
        self.guard = Guard(self._app, self.uploads, listening="127.0.0.1", max_bytes=MOST, **options)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.asked.append((scope["path"], message.get("body", b"")))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"a")]})
        await send({"type": "http.response.body", "body": b"page"})

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.guard)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
                return await client.request(method, path, **options)

        return asyncio.run(go())

    def join(self, *data: Any, session: Any = "s") -> httpx.Response:
        body = {"data": data, "fn_index": 1, "session_hash": session, "event_data": {"path": "/etc/passwd"}}
        return self.ask("POST", "/gradio_api/queue/join", json=body)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:7860", 200),
        ("LOCALHOST", 200),
        ("[::1]:7860", 200),
        ("192.168.7.7", 200),
        ("clips.example.org", 200),
        ("evil.example", 421),
        ("evil.example:7860", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example@127.0.0.1", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_the_host_must_be_this_machine(tmp_path: Path, host: str, status: int) -> None:
    page = Page(tmp_path, hosts=["clips.example.org"])
    for method, path in (("GET", "/"), ("OPTIONS", "/gradio_api/upload")):
        found = page.ask(method, path, headers={"host": host, "origin": f"http://{host}"})
        if status != 200:
            assert found.status_code == status
            assert "access-control-allow-origin" not in found.headers
    assert page.ask("GET", "/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7860", 200),
        ("https://127.0.0.1:7860", 200),
        ("https://clips.example.org", 200),
        ("http://127.0.0.1:8000", 403),
        ("http://localhost:7860", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("http://127.0.0.1:7860.evil.example", 403),
    ],
)
def test_another_page_may_not_ask(tmp_path: Path, origin: str, status: int) -> None:
    page = Page(tmp_path, hosts=["clips.example.org"])
    headers = {"host": "127.0.0.1:7860", "origin": origin}
    assert page.ask("GET", "/config", headers=headers).status_code == status
    upload = page.ask("POST", "/gradio_api/upload", headers=headers, files={"files": ("a.mp4", b"x")})
    assert upload.status_code == status
    assert len(page.asked) == (status == 200)


def test_addresses_that_the_page_does_not_need_are_not_there(page: Page) -> None:
    for path in ("/", "/config", "/assets/index.js", "/gradio_api/heartbeat/abc", "/gradio_api/queue/data"):
        found = page.ask("GET", path)
        assert found.status_code == 200, path
        assert "default-src 'self'" in found.headers["content-security-policy"]
    page.asked.clear()
    assert '"done"' in page.ask("GET", "/gradio_api/upload_progress?upload_id=1").text
    refused = (
        *(("GET", f"/gradio_api/{one}") for one in ("proxy=http://10.0.0.1/", "file/etc/passwd", "runs")),
        *(
            ("GET", f"/gradio_api/file={one}")
            for one in ("/etc/passwd", "http://127.0.0.1/x", "https://a.b/")
        ),
        *(("GET", one) for one in ("/monitoring", "/gradio_api/deep_link", "/login", "/docs")),
        *(("POST", f"/gradio_api/{one}") for one in ("run/answer", "api/answer", "call/answer", "call/v2/x")),
        *(("POST", f"/gradio_api/{one}") for one in ("component_server", "process_recording", "vibe-edit")),
        *(("OPTIONS", one) for one in ("/", "/gradio_api/upload")),
        ("PUT", "/gradio_api/upload"),
    )
    for method, path in refused:
        assert page.ask(method, path).status_code == 404, (method, path)
    assert page.asked == []


def test_a_file_of_any_name_is_uploaded_to_a_place_of_its_own(page: Page) -> None:
    paths = []
    for name in ("", "../../x.html", "same.mp4"):
        disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        body = f"--b\r\n{disposition}\r\nContent-Type: video/mp4\r\n\r\nclip\r\n--b--\r\n"
        headers = {"content-type": "multipart/form-data; boundary=b"}
        found = page.ask("POST", "/gradio_api/upload?upload_id=1", content=body, headers=headers)
        assert found.status_code == 200, found.text
        paths += [Path(one) for one in found.json()]
    assert [path.name for path in paths] == ["clip", "x.html", "same.mp4"]
    assert len({path.parent for path in paths}) == 3
    assert all(path.parent.parent == page.uploads.folder for path in paths)
    shown = [page.ask("GET", f"/gradio_api/file={path}") for path in paths]
    assert [one.content for one in shown] == [b"clip"] * 3
    kinds = [one.headers["content-type"] for one in shown]
    assert kinds == ["application/octet-stream", "application/octet-stream", "video/mp4"]
    full = page.ask("POST", "/gradio_api/upload", files={"files": ("a.mp4", b"x")})
    assert (full.status_code, "too many clips" in full.text) == (503, True)
    page.uploads.discard(paths[0])
    assert page.ask("GET", f"/gradio_api/file={paths[0]}").status_code == 404


def test_what_is_no_upload_is_refused(page: Page) -> None:
    send = {"headers": {"content-type": "multipart/form-data; boundary=b"}}
    for options in (
        {"json": {}},
        {"content": b"--b\r\n", **send},
        {"content": b"", **send},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"data": {"files": "x"}},
        {"files": [("files", ("a", b"x"))] * (MOST_CLIPS + 1)},
        {"files": {"other": ("a", b"x")}},
    ):
        assert page.ask("POST", "/gradio_api/upload", **options).status_code == 400, options
    together = {"files": [("files", ("a", b"x" * (MOST // 2))), ("files", ("b", b"x" * (MOST // 2 + 2)))]}
    assert page.ask("POST", "/gradio_api/upload", **together).status_code == 413
    for size in (MOST + 1, 200_000):
        large = page.ask("POST", "/gradio_api/upload", files={"files": ("a.mp4", b"x" * size)})
        assert large.status_code == 413
    assert not page.uploads.folder.exists() or not list(page.uploads.folder.iterdir())


def test_an_upload_that_is_cut_off_leaves_nothing(page: Page) -> None:
    async def go() -> list[Any]:
        told: list[Any] = []
        parts = [
            {"type": "http.request", "body": b"--b\r\nContent-Disposition: form-data; ", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return parts.pop(0)

        async def send(message: Any) -> None:
            told.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
        where = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b""}
        await page.guard({**where, "headers": headers}, receive, send)
        return told

    assert asyncio.run(go())[0]["status"] == 400
    assert not page.uploads.folder.exists()


def test_a_request_names_nothing_but_uploads(page: Page, tmp_path: Path) -> None:
    clip = page.uploads.place("a.mp4")
    clip.write_bytes(b"x")
    given = {"path": str(clip), "url": "http://10.0.0.1/x", "is_stream": True, "meta": {"_type": "x"}}
    assert page.join(given, "names").status_code == 200
    ((_, body),) = page.asked
    assert json.loads(body) == {
        "data": [{"path": str(clip), "meta": {"_type": "gradio.FileData"}}, "names"],
        "fn_index": 1,
        "session_hash": "s",
        "trigger_id": None,
    }
    page.asked.clear()
    real = {"meta": {"_type": "gradio.FileData"}}
    elsewhere = ("/etc/passwd", "http://127.0.0.1:1/x.mp4", "https://a.b/x", str(tmp_path / "x"), "x", "")
    inside = str(page.uploads.folder / ".." / "x.mp4")
    for path in (*elsewhere, inside):
        assert page.join({"path": path, **real}, "names").status_code == 403, path
        assert page.join(None, {"path": path, **real}).status_code == 403, path
        several = [{"path": str(clip), **real}, {"path": path, **real}]
        assert page.join(several, "names").status_code == 403, path
    many, nested = [{"path": str(clip), **real}] * (MOST_CLIPS + 1), [[{"path": str(clip), **real}]]
    for value in (
        many,
        nested,
        ["names"],
        [None],
        {"value": {"path": "/etc/passwd", **real}},
        3,
        {"path": 3},
    ):
        assert page.join(value, "names").status_code == 400, value
    for session in (None, "", "a" * 65, "a/b", 3, ["a"]):
        assert page.join(None, "names", session=session).status_code == 400, session
    for content in (b"", b"[" * 100_000, b"[]", b"\xff", b"{}", b'{"data": 1, "fn_index": 1}'):
        assert page.ask("POST", "/gradio_api/queue/join", content=content).status_code == 400
    large = page.ask("POST", "/gradio_api/queue/join", content=b"x" * (LONGEST_BODY + 1))
    assert large.status_code == 413
    assert page.asked == []


def test_several_clips_are_dropped_and_asked_about(page: Page) -> None:
    sent = [("files", (f"{name}.mp4", b"x")) for name in "ab"]
    paths = page.ask("POST", "/gradio_api/upload", files=sent).json()
    assert [Path(path).name for path in paths] == ["a.mp4", "b.mp4"]
    assert len({Path(path).parent for path in paths}) == 2
    given = [
        {"path": path, "url": "http://10.0.0.1/x", "meta": {"_type": "gradio.FileData"}} for path in paths
    ]
    assert page.join(given, "names").status_code == 200
    ((_, body),) = page.asked
    expected = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    assert json.loads(body)["data"] == [expected, "names"]


def test_a_clip_that_was_removed_is_told_by_the_page(page: Page) -> None:
    clip = page.uploads.place("a.mp4")
    page.uploads.discard(clip)
    found = page.join({"path": str(clip), "meta": {"_type": "gradio.FileData"}}, "names")
    assert found.status_code == 200
