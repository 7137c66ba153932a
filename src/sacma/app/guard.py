"""Guard between the network and the page: checks who asks, what is asked, and how much of it.

A request must name this machine in ``Host``, and where it comes from a page of its own in ``Origin``: another
page that had its name point here (DNS rebinding) is refused. Of Gradio's addresses only those that the page
needs are let through; uploads and clips are handled here, and a request to the model is written anew with
nothing in it but the name of a known upload, so that nothing a visitor writes makes the server open anything.
"""

from __future__ import annotations

import ipaddress
import json
import mimetypes
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sacma.app.uploads import Uploads
from sacma.errors import SacmaError

LONGEST_BODY = 400_000
"""Bytes of a request that is no upload; the names may have 20,000 characters, each written as ``\\uXXXX``."""
LONGEST_SESSION = 64
"""Characters of the name that a browser gives its session."""
_AROUND = 65_536
"""Bytes of an upload besides the clips."""
MOST_CLIPS = 20
"""Clips that are dropped or asked about at a time; together they are no larger than one may be."""
_MOST_VALUES = 8
"""Values of a request to the model."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's page has scripts in it
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)
_HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
_UPLOAD, _FILE = "/gradio_api/upload", "/gradio_api/file="
_ASK = ("/gradio_api/queue/join", "/gradio_api/run/predict")
"""The second does not wait in the queue; Gradio refuses it for functions that have to (``api_open``)."""
_PROGRESS = "/gradio_api/upload_progress"
_READ = re.compile(
    r"/(config/?|theme\.css|robots\.txt|favicon\.ico|manifest\.json|(assets|static|svelte)/[^\0]+|"
    r"gradio_api/(heartbeat/[\w-]{1,64}|queue/(data|status)|startup-events|info/?|app_id/?|user/?|token/?))?"
)
_WRITE = re.compile(r"/gradio_api/(cancel|reset/?)")


class _RefusedError(Exception):
    """A request is refused.

    Args:
        status: of HTTP.
        why: a sentence.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Guard:
    """ASGI application around the page.

    Args:
        app: the page.
        uploads: the clips.
        listening: name or address that the page listens on.
        hosts: names by which others reach the page, besides addresses, ``localhost`` and this machine's name.
        max_bytes: of a clip.
    """

    def __init__(
        self, app: Any, uploads: Uploads, *, listening: str, hosts: Iterable[str] = (), max_bytes: int
    ) -> None:
        self.app, self.uploads, self.max_bytes = app, uploads, max_bytes
        self.given = frozenset(host.strip().rstrip(".").lower() for host in hosts)
        self.hosts = self.given | {"localhost", listening.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or hand it on."""
        from starlette.responses import PlainTextResponse

        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            send = _with_headers(send)
            try:
                await self._answer(scope, receive, send)
            except _RefusedError as error:
                said = PlainTextResponse(str(error), error.status, {"connection": "close"})
                await said(scope, receive, send)
        else:  # a web socket: the page has none
            await send({"type": "websocket.close"})

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        headers = Headers(scope=scope)
        self._check_origin(headers.getlist("host"), headers.getlist("origin"))
        method, path = scope["method"], scope["path"]
        read = method in ("GET", "HEAD")
        respond: Any
        if method == "POST" and path == _UPLOAD:
            respond = await self._upload(scope, _limited(receive, self.max_bytes + _AROUND))
        elif read and path.startswith(_FILE):
            respond = self._clip(path.removeprefix(_FILE))
        elif read and path == _PROGRESS:  # uploads are not followed step by step
            respond = PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        elif method == "POST" and path in _ASK:
            body = await _whole(_limited(receive, LONGEST_BODY))
            respond, (scope, receive) = self.app, _with_body(scope, receive, self._checked(body))
        elif method == "POST" and _WRITE.fullmatch(path):
            body = await _whole(_limited(receive, LONGEST_BODY))
            respond, (scope, receive) = self.app, _with_body(scope, receive, body)
        elif read and _READ.fullmatch(path):
            respond = self.app
        else:
            raise _RefusedError(404, "There is nothing here.")
        await respond(scope, receive, send)

    def _check_origin(self, host: list[str], origin: list[str]) -> None:
        """Refuse a request that another page may have sent.

        Raises:
            _RefusedError: ``Host`` is not this machine, or ``Origin`` is not this page.
        """
        if len(host) != 1 or not self._is_host(host[0]):
            raise _RefusedError(
                421, "This page does not go by that name; its owner can allow it with --allowed-hosts."
            )
        if not origin:
            return
        scheme, _, place = origin[0].lower().partition("://")
        same = place == host[0].lower() or _name_of(place) in self.given
        if len(origin) > 1 or scheme not in ("http", "https") or not same:
            raise _RefusedError(403, "Another page may not ask here.")

    def _is_host(self, header: str) -> bool:
        # An address cannot be made to point elsewhere, only a name can.
        name = _name_of(header)
        try:
            return bool(name) and (name in self.hosts or bool(ipaddress.ip_address(name)))
        except ValueError:
            return False

    async def _upload(self, scope: Any, receive: Any) -> Any:
        from anyio import to_thread
        from starlette.datastructures import UploadFile
        from starlette.exceptions import HTTPException
        from starlette.formparsers import MultiPartException
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import JSONResponse

        made: list[Path] = []
        kept = False
        try:
            async with Request(scope, receive).form(max_files=MOST_CLIPS, max_fields=10) as form:
                files = [one for one in form.getlist("files") if isinstance(one, UploadFile)]
                if not files:
                    raise ValueError("no file")
                if sum(file.size or 0 for file in files) > self.max_bytes:
                    raise _too_large(self.max_bytes)
                for file in files:
                    path = self.uploads.place(file.filename or "", size=file.size or 0)
                    made.append(path)
                    await to_thread.run_sync(_copy, file.file, path)
            kept = True
        except OSError as error:
            raise _RefusedError(507, "There is no room for this clip.") from error
        except ClientDisconnect as error:
            raise _RefusedError(400, "The upload was cut off.") from error
        except (HTTPException, MultiPartException, ValueError, AssertionError, KeyError) as error:
            raise _RefusedError(
                400, f"Files are expected, {MOST_CLIPS} at most, as form fields called files."
            ) from error
        except SacmaError as error:
            raise _RefusedError(503, str(error)) from error
        finally:
            if not kept:  # cancelled, too
                for path in made:
                    self.uploads.discard(path)
        return JSONResponse([str(path) for path in made])

    def _clip(self, path: str) -> Any:
        from starlette.responses import FileResponse

        if not self.uploads.known(path) or not Path(path).is_file():
            raise _RefusedError(404, "There is no such clip.")
        kind = mimetypes.guess_type(path)[0] or ""
        # Whatever else it says it is, a browser must not show it as a page of ours.
        media = kind if kind.startswith(("video/", "audio/")) else "application/octet-stream"
        return FileResponse(path, media_type=media, headers={"cache-control": "no-store"})

    def _checked(self, body: bytes) -> bytes:
        """A request to the model, written anew.

        Raises:
            _RefusedError: it is no such request, or names a file that is no upload.
        """
        try:
            asked = json.loads(body)
            number, session, data = asked["fn_index"], asked["session_hash"], asked["data"]
            trigger = asked.get("trigger_id")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _RefusedError(400, "This is no request that the page makes.") from error
        numbers = type(number) is int and type(trigger) in (int, type(None))
        named = isinstance(session, str) and re.fullmatch(rf"[\w-]{{1,{LONGEST_SESSION}}}", session)
        if not (numbers and named and isinstance(data, list) and len(data) <= _MOST_VALUES):
            raise _RefusedError(400, "This is no request that the page makes.")
        return json.dumps(
            {
                "data": [self._value(one) for one in data],
                "fn_index": number,
                "session_hash": session,
                "trigger_id": trigger,
            }
        ).encode()

    def _value(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, list) and len(value) <= MOST_CLIPS:
            return [self._file(one) for one in value]
        return self._file(value)

    def _file(self, value: Any) -> Any:
        path = value.get("path") if isinstance(value, dict) else None
        if not isinstance(path, str):
            raise _RefusedError(400, "This is no request that the page makes.")
        within = Path(path).parent.parent == self.uploads.folder and ".." not in Path(path).parts
        if not within and not self.uploads.known(path):
            raise _RefusedError(403, "This file was not uploaded here.")
        return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _name_of(place: str) -> str:
    """The name in ``name:port``, without brackets and in small letters; empty if it is no such thing."""
    try:
        return "" if set(place) & set("@/?#\\") else (urlsplit(f"//{place}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _copy(file: Any, path: Path) -> None:
    file.seek(0)
    with path.open("xb") as target:
        shutil.copyfileobj(file, target)


def _too_large(most: int) -> _RefusedError:
    return _RefusedError(413, f"File size exceeded maximum allowed size of {most} bytes.")


def _limited(receive: Any, most: int) -> Any:
    """Receive at most so many bytes of a body.

    Raises:
        _RefusedError: when there are more.
    """
    taken = 0

    async def limited() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _too_large(most)
        return message

    return limited


async def _whole(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _RefusedError(400, "The request was cut off.")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _with_body(scope: Any, receive: Any, body: bytes) -> tuple[Any, Any]:
    """The request with another body."""
    gone = (b"content-length", b"content-type", b"transfer-encoding")
    headers = [(key, value) for key, value in scope["headers"] if key not in gone]
    headers += [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return left.pop() if left else await receive()

    return {**scope, "headers": headers}, again


def _with_headers(send: Any) -> Any:
    """Add the headers of the content security policy to what is sent."""

    async def guarded(message: Any) -> None:
        if message["type"] == "http.response.start":
            kept = [(key, value) for key, value in message["headers"] if key.lower() not in _HEADERS]
            message["headers"] = [*kept, *_HEADERS.items()]
        await send(message)

    return guarded
