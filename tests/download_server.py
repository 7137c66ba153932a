"""A local server with faults of real ones: it drops connections, changes files and hides lengths."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
