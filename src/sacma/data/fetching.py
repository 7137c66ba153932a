"""Downloads one file over HTTP: resumable, checked by size and checksum, from several addresses."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from sacma import files
from sacma.errors import SacmaError, one_line, printable

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at a time are not prevented there
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 5
"""Tries in a row without new bytes after which an address is given up."""
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Pauses between them; a server's ``Retry-After`` lengthens one to at most ``LONGEST_PAUSE``."""
LONGEST_PAUSE = 30.0

_TRANSIENT = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)
_REPORT_SECONDS = 0.1
_NUMBER = re.compile(r"[0-9]{1,15}")
_PART = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
MOST_BYTES = 1 << 40
"""Of a file whose length the server states."""
MOST_UNSTATED = 64 << 30
"""Of a file whose length it does not state, which may have no end; more than any published archive has."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class ByteProgress:
    """Progress of a download, or of unpacking.

    Attributes:
        source: the address, or the archive that is unpacked.
        done: bytes so far, with those of earlier attempts.
        total: bytes in all; None where the server does not say.
    """

    source: str
    done: int
    total: int | None


OnBytes = Callable[[ByteProgress], None]


class _TransientError(Exception):
    """A failure that may pass. ``pause``: seconds that the server asks to wait."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _FinalError(Exception):
    """A failure that ends the tries of an address."""


@dataclass(frozen=True)
class _Remote:
    """A server's statements about a file; they show later that the file is still the same."""

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    def may_be(self, other: _Remote) -> bool:
        """Return True where no statement differs and at least one is in both."""
        pairs = list(zip(asdict(self).values(), asdict(other).values(), strict=True))
        both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
        return bool(both) and all(mine == theirs for mine, theirs in both)

    @property
    def condition(self) -> str | None:
        """The value of ``If-Range``, which takes no weak tag."""
        strong = self.etag is not None and not self.etag.startswith("W/")
        return self.etag if strong else self.modified


def fetch(
    urls: Sequence[str], target: Path, *, sha256: str | None, on_progress: OnBytes | None = None
) -> Path:
    """Download a file; an interrupted download is continued.

    The file grows as ``<target>.part``, with what the server said about it in ``<target>.part.json``, and
    takes its place when it is complete and has the right checksum. If the file at the address has changed
    meanwhile (tag, date or size), or the server cannot send a part, it is fetched from the start. Transient
    errors are retried after a pause; after ``ATTEMPTS`` of them the next address is tried. A file has at most
    ``MOST_BYTES``, or ``MOST_UNSTATED`` where the server does not state its length.

    Args:
        urls: http or https addresses of the same file.
        target: where it goes. A file that is there already is kept if the checksum is right or not known.
        sha256: its checksum in hexadecimal; None if unknown: then the size alone is checked.
        on_progress: called about ten times a second, and at the end.

    Returns:
        ``target``.

    Raises:
        SacmaError: no address worked (the message names each one and its reason), the disk is full, or
            another process is downloading to the same place.
    """
    sha256 = sha256.lower() if sha256 else None
    if target.is_file() and (sha256 is None or files.sha256(target) == sha256):
        return target
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open_partial(target) as partial, _client() as client:
            for url in urls:
                try:
                    _fetch_from(client, url, partial, sha256, on_progress)
                except _FinalError as error:
                    reasons.append(f"{url}: {error}")
                    continue
                partial.place(target)
                return target
    except OSError as error:
        raise SacmaError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another place"
        ) from error
    tried = "; ".join(reasons) if reasons else "no address is known"
    raise SacmaError(
        f"cannot download {target.name}: {tried}. Try again later, give other addresses, "
        f"or put the file at {target}"
    )


def _client() -> httpx.Client:
    return httpx.Client(follow_redirects=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"})


class _Partial:
    """The file that grows, open and locked, with the server's statements about it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.facts = path.with_name(f"{path.name}.json")
        self.remote = self._recorded()
        if self.remote.total is not None and self.size > self.remote.total:
            self.restart(_Remote())

    def _recorded(self) -> _Remote:
        try:
            facts = files.read_json(self.facts, limit=64 << 10)
        except SacmaError:
            return _Remote()
        total = facts.get("total")
        size = total if type(total) is int and 0 <= total <= MOST_BYTES else None
        return _Remote(_header(facts.get("etag")), _header(facts.get("modified")), size)

    @property
    def size(self) -> int:
        self.file.flush()
        return os.fstat(self.file.fileno()).st_size

    @property
    def complete(self) -> bool:
        return self.remote.total is not None and self.size == self.remote.total

    def restart(self, remote: _Remote) -> None:
        self.file.truncate(0)
        self.remote = remote
        files.write_text(self.facts, json.dumps(asdict(remote)))

    def place(self, target: Path) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.path.replace(target)
        files.remove(self.facts)


@contextmanager
def _open_partial(target: Path) -> Iterator[_Partial]:
    path = target.with_name(f"{target.name}.part")
    with path.open("ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SacmaError(
                    f"{path}: another process is downloading this; wait for it or choose another place"
                ) from None
        partial = _Partial(path, file)
        try:
            yield partial
        finally:
            if not file.closed and not partial.size:
                files.remove(path)
                files.remove(partial.facts)


def _fetch_from(
    client: httpx.Client, url: str, partial: _Partial, sha256: str | None, on_progress: OnBytes | None
) -> None:
    """Complete ``partial`` from one address and check it.

    Raises:
        _FinalError: this address cannot complete it.
    """
    continued = partial.size > 0
    _complete(client, url, partial, on_progress)
    if sha256 is None or (found := files.sha256(partial.path)) == sha256:
        return
    partial.restart(_Remote())
    if not continued:
        raise _FinalError(f"the checksum is {found}, expected {sha256}")
    _fetch_from(client, url, partial, sha256, on_progress)  # the old beginning may be at fault


def _complete(client: httpx.Client, url: str, partial: _Partial, on_progress: OnBytes | None) -> None:
    furthest, failures = partial.size, 0
    while not partial.complete:
        try:
            _receive(client, url, partial, on_progress)
            return
        except _TransientError as error:
            failures = 0 if partial.size > furthest else failures + 1
            furthest = max(furthest, partial.size)
            if failures >= ATTEMPTS:
                raise _FinalError(f"{error}, after {failures} attempts") from error
            time.sleep(max(error.pause, BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]))


def _receive(client: httpx.Client, url: str, partial: _Partial, on_progress: OnBytes | None) -> None:
    """Make one request: append the answer to ``partial``, or begin ``partial`` again if it does not fit."""
    try:
        with client.stream("GET", url, headers=_range(partial)) as response:
            _begin(response, partial)
            _append(response, url, partial, on_progress)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise _FinalError(one_line(error, limit=200)) from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise _TransientError(one_line(error, limit=200) or type(error).__name__) from error
    except (_TransientError, _FinalError, SacmaError, OSError):
        raise
    # What a server sends may come to light as almost any exception of the client.
    except Exception as error:
        detail = one_line(error, limit=200) or type(error).__name__
        raise _FinalError(f"its answer cannot be understood ({detail})") from error


def _range(partial: _Partial) -> dict[str, str]:
    if not partial.size or partial.remote == _Remote():
        return {}
    condition = partial.remote.condition
    return {"Range": f"bytes={partial.size}-"} | ({"If-Range": condition} if condition else {})


def _begin(response: httpx.Response, partial: _Partial) -> None:
    status = response.status_code
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        partial.restart(_Remote())  # the file there is shorter than ours
    if status in _TRANSIENT:
        raise _TransientError(_answer(response), _retry_after(response))
    if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise _FinalError(_answer(response))
    start, remote = _described(response)
    if status == httpx.codes.OK:
        partial.restart(remote)
    elif start != partial.size or not remote.may_be(partial.remote):
        partial.restart(_Remote())
        raise _TransientError("the file changed while it was downloaded")
    check_space(partial.path.parent, (remote.total or 0) - partial.size, partial.path.stem)


def _answer(response: httpx.Response) -> str:
    return f"the server answers {response.status_code} {response.reason_phrase}".rstrip()


def _retry_after(response: httpx.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_PAUSE) if _NUMBER.fullmatch(seconds) else 0.0


def _header(value: object) -> str | None:
    """A header's value that can be sent back; None for any other."""
    sendable = isinstance(value, str) and len(value) <= 1000 and value.isascii() and value.isprintable()
    return value if isinstance(value, str) and sendable else None


def _described(response: httpx.Response) -> tuple[int, _Remote]:
    """Return the answer's first position in the file, and the statements about the file."""
    start, total = 0, response.headers.get("Content-Length")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        found = _PART.fullmatch(response.headers.get("Content-Range", ""))
        start, total = (int(found[1]), found[2]) if found else (-1, None)
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        # Packed, though we asked for no packing: tag and size are not those of the bytes that arrive.
        return start, _Remote()
    if total not in (None, "*") and not _NUMBER.fullmatch(total):
        raise _FinalError(f"it states a length of {printable(total)}")
    size = int(total) if total is not None and _NUMBER.fullmatch(total) else None
    return start, _Remote(_header(headers.get("ETag")), _header(headers.get("Last-Modified")), size)


def _append(response: httpx.Response, url: str, partial: _Partial, on_progress: OnBytes | None) -> None:
    total = partial.remote.total
    report = ByteReporter(url, total, on_progress)
    done, most = partial.size, MOST_UNSTATED if total is None else MOST_BYTES
    for chunk in response.iter_bytes():
        partial.file.write(chunk)
        done += len(chunk)
        if done > most:
            partial.restart(_Remote())
            raise _FinalError(f"the answer has no end within {most} bytes")
        report(done)
    partial.file.flush()
    if total is not None and done != total:
        if done > total:
            partial.restart(_Remote())
        raise _TransientError(f"the connection ended after {done} of {total} bytes")
    report(done, last=True)


class ByteReporter:
    """Calls ``on_progress`` about ten times a second, not for every chunk."""

    def __init__(self, source: str, total: int | None, on_progress: OnBytes | None) -> None:
        self.source, self.total, self.on_progress = source, total, on_progress
        self.reported = time.monotonic()

    def __call__(self, done: int, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress is None or not (last or now - self.reported >= _REPORT_SECONDS):
            return
        self.reported = now
        self.on_progress(ByteProgress(self.source, done, self.total))


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check that the disk has room.

    Args:
        folder: a folder on the disk, existing or not.
        needed: bytes.
        what: the content, for the message.

    Raises:
        SacmaError: there is less room.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise SacmaError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; "
            "free some space or choose another place"
        )
