"""Fetching the published feature archives: resumable downloads, unpacking that cannot leave its folder.

Addresses are data, not code: ``facts/archives.yaml``, and a user's own file of the same form.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import httpx
import yaml

from sacma import files
from sacma.errors import SacmaError

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at a time are not prevented there
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 5
"""Tries for each address in which nothing new arrives before it is given up."""
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Pauses between them; a server's ``Retry-After`` lengthens one to at most ``LONGEST_PAUSE``."""
LONGEST_PAUSE = 30.0

_TRANSIENT = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)
_REPORT_SECONDS = 0.1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Progress:
    """How far it has come.

    Attributes:
        source: the address, or the archive that is unpacked.
        done: bytes so far, with those of earlier attempts.
        total: bytes in all; None where the server does not say.
    """

    source: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Archive:
    """Where an archive is.

    Attributes:
        urls: addresses of the same file, the first preferred; empty where none is known.
        sha256: checksum in hexadecimal; None where none is known.
    """

    urls: tuple[str, ...]
    sha256: str | None


@dataclass(frozen=True)
class Downloaded:
    """What ``download`` left on disk.

    Attributes:
        root: the folder that holds ``class-split/`` and ``features/``, or what comes closest to it.
        missing: paths below ``root`` that the layout of the benchmarks wants and the archive does not have.
        verified: the archive had the checksum that was expected; False where none is known.
    """

    root: Path
    missing: tuple[str, ...]
    verified: bool


# --- One file -----------------------------------------------------------------------------------------


class _TransientError(Exception):
    """Worth another try. ``pause``: seconds that the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _FinalError(Exception):
    """This address will not do."""


@dataclass(frozen=True)
class _Remote:
    """What a server says about a file, to see later whether it is still the same one."""

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    def may_be(self, other: _Remote) -> bool:
        """Nothing that both say differs, and both say something."""
        pairs = list(zip(asdict(self).values(), asdict(other).values(), strict=True))
        both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
        return bool(both) and all(mine == theirs for mine, theirs in both)

    @property
    def condition(self) -> str | None:
        """For ``If-Range``, which takes no weak tag."""
        strong = self.etag is not None and not self.etag.startswith("W/")
        return self.etag if strong else self.modified


def fetch(
    urls: Sequence[str], target: Path, *, sha256: str | None, on_progress: OnProgress | None = None
) -> Path:
    """Download a file; what was interrupted goes on where it stopped.

    The file grows as ``<target>.part``, with what the server said about it in ``<target>.part.json``, and
    takes its place when it is complete and has the right checksum. If the file at the address has changed
    meanwhile (tag, date or size), or the server cannot send a part, it is fetched from the start. Transient
    trouble is retried after a pause; then the next address has its turn.

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
    """The file that grows, open and locked, and what is known about where it comes from."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.facts = path.with_name(f"{path.name}.json")
        self.remote = self._recorded()
        if self.remote.total is not None and self.size > self.remote.total:
            self.restart(_Remote())

    def _recorded(self) -> _Remote:
        try:
            facts = json.loads(self.facts.read_text(encoding="utf-8"))
            return _Remote(**{name: facts[name] for name in ("etag", "modified", "total")})
        except (OSError, ValueError, KeyError, TypeError):
            return _Remote()

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
    client: httpx.Client, url: str, partial: _Partial, sha256: str | None, on_progress: OnProgress | None
) -> None:
    """Bring ``partial`` to its end from one address and check it.

    Raises:
        _FinalError: it cannot be done.
    """
    continued = partial.size > 0
    _complete(client, url, partial, on_progress)
    if sha256 is None or (found := files.sha256(partial.path)) == sha256:
        return
    partial.restart(_Remote())
    if not continued:
        raise _FinalError(f"the checksum is {found}, expected {sha256}")
    _fetch_from(client, url, partial, sha256, on_progress)  # the old beginning may be at fault


def _complete(client: httpx.Client, url: str, partial: _Partial, on_progress: OnProgress | None) -> None:
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


def _receive(client: httpx.Client, url: str, partial: _Partial, on_progress: OnProgress | None) -> None:
    """One request: append what comes to ``partial``, or begin it again where that does not continue it."""
    try:
        with client.stream("GET", url, headers=_range(partial)) as response:
            _begin(response, partial)
            _append(response, url, partial, on_progress)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise _FinalError(f"{error}") from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise _TransientError(f"{error}" or type(error).__name__) from error


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
    _check_space(partial.path.parent, (remote.total or 0) - partial.size, partial.path.stem)


def _answer(response: httpx.Response) -> str:
    return f"the server answers {response.status_code} {response.reason_phrase}".rstrip()


def _retry_after(response: httpx.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_PAUSE) if seconds.isdigit() else 0.0


def _described(response: httpx.Response) -> tuple[int, _Remote]:
    """Where the answer starts in the file, and what is said about the file."""
    start, total = 0, response.headers.get("Content-Length")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        start, total = (int(found[1]), found[2]) if found else (-1, None)
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        # Packed, although we asked for it as it is: what the server says is not about the bytes that we get.
        return start, _Remote()
    size = int(total) if total is not None and total.isdigit() else None
    return start, _Remote(headers.get("ETag"), headers.get("Last-Modified"), size)


def _append(response: httpx.Response, url: str, partial: _Partial, on_progress: OnProgress | None) -> None:
    total = partial.remote.total
    report = _Reporter(url, total, on_progress)
    done = partial.size
    for chunk in response.iter_bytes():
        partial.file.write(chunk)
        done += len(chunk)
        report(done)
    partial.file.flush()
    if total is not None and done != total:
        if done > total:
            partial.restart(_Remote())
        raise _TransientError(f"the connection ended after {done} of {total} bytes")
    report(done, last=True)


class _Reporter:
    """Calls ``on_progress``, but not for every chunk."""

    def __init__(self, source: str, total: int | None, on_progress: OnProgress | None) -> None:
        self.source, self.total, self.on_progress = source, total, on_progress
        self.reported = time.monotonic()

    def __call__(self, done: int, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress is None or not (last or now - self.reported >= _REPORT_SECONDS):
            return
        self.reported = now
        self.on_progress(Progress(self.source, done, self.total))


def _check_space(folder: Path, needed: int, what: str) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise SacmaError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; "
            "free some space or choose another place"
        )


# --- Unpacking ----------------------------------------------------------------------------------------


def extract_zip(archive: Path, out: Path, *, on_progress: OnProgress | None = None) -> Path:
    """Unpack an archive into a new folder, all of it or nothing.

    Args:
        archive: the zip file.
        out: the folder to make; it must not exist, or be empty.
        on_progress: called about ten times a second with the bytes unpacked.

    Returns:
        ``out``.

    Raises:
        SacmaError: not a zip file, damaged or encrypted; an entry that is a link, or would lie outside
            ``out``, or is there twice; more content than the disk has room for; ``out`` is not empty.
    """
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if out.exists() or out.is_symlink():
        raise SacmaError(f"{out} exists already; remove it or choose another place")
    try:
        with zipfile.ZipFile(archive) as opened, files.replacing(out) as partial:
            entries = opened.infolist()
            _check_entries(archive, entries)
            total = sum(entry.file_size for entry in entries)
            _check_space(out, total, f"the content of {archive.name}")
            partial.mkdir(parents=True)
            _unpack(opened, entries, partial, _Reporter(str(archive), total, on_progress))
    except OSError as error:
        raise SacmaError(
            f"{archive}: cannot be read ({error.strerror or error}); download it first"
        ) from error
    except _DAMAGED as error:
        raise SacmaError(
            f"{archive}: not a zip file that can be read ({error}){_web_page(archive)}; download it again"
        ) from error
    return out


_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
)
"""What ``zipfile`` raises for damaged archives and for kinds that it cannot unpack."""


def _check_entries(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    names = Counter(entry.filename for entry in entries if not entry.is_dir())
    for entry in entries:
        reason = _unsafe(entry.filename)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            reason = "it is a link or a device"
        elif entry.flag_bits & 0x1:
            reason = "it is encrypted"
        elif names[entry.filename] > 1:
            reason = "it is there twice"
        if reason:
            raise SacmaError(
                f"{archive}: entry {entry.filename!r} is refused: {reason}; get the archive elsewhere"
            )


def _unsafe(name: str) -> str | None:
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or (path.parts and ":" in path.parts[0]):
        return "its path is not relative"
    if not path.parts or ".." in path.parts:
        return "it lies outside the archive"
    return None


def _unpack(
    opened: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], out: Path, report: _Reporter
) -> None:
    done = 0
    for entry in entries:
        target = out / entry.filename
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(entry) as source, target.open("xb") as sink:
            while chunk := source.read(_CHUNK):  # never more than the entry's declared size
                sink.write(chunk)
                done += len(chunk)
                report(done)
    report(done, last=True)


def _web_page(archive: Path) -> str:
    with suppress(OSError), archive.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return ", it is a web page"
    return ""


# --- The published archives ---------------------------------------------------------------------------

_FOLDERS = {"selavi": "main_features_non_averaged", "c3d-vggish": "cls_features_non_averaged"}
_DEEPEST = 4
"""Folders that may lie around the root in an archive."""


def download(
    benchmark: str,
    features: str,
    out: Path,
    *,
    addresses: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Downloaded:
    """Fetch and unpack the archive of a benchmark's features, into ``out/<benchmark>-<features>``.

    What the archives hold is not documented: ``Downloaded.missing`` says what the layout of the benchmarks
    wants and is not there. An archive that was unpacked before is not fetched again.

    Args:
        benchmark: ucf, vggsound or activitynet, or another name that ``addresses`` has.
        features: selavi, c3d-vggish or averaged, or another name that ``addresses`` has.
        out: folder for the archive and what is in it; the archive is removed once it is unpacked.
        addresses: a YAML file that replaces or adds addresses, in the form of ``archives.yaml``.
        on_progress: called while it downloads and while it unpacks.

    Raises:
        SacmaError: no such entry, no address works, or the archive is refused.
    """
    archive = _archive(read_archives(addresses), benchmark, features)
    folder = out / f"{benchmark}-{features}"
    if not folder.is_dir() or not any(folder.iterdir()):
        packed = out / f"{benchmark}-{features}.zip"
        if not archive.urls and not packed.is_file():
            raise SacmaError(
                f"no address is known for {features} features of {benchmark}; give a YAML file with one "
                f"(addresses), or put the archive at {packed}"
            )
        fetch(archive.urls, packed, sha256=archive.sha256, on_progress=on_progress)
        extract_zip(packed, folder, on_progress=on_progress)
        files.remove(packed)
    root = _root(folder)
    return Downloaded(root, _missing(root, features), archive.sha256 is not None)


def read_archives(addresses: Path | None = None) -> dict[str, dict[str, Archive]]:
    """Benchmark -> features -> archive: ours, and the entries of a user's file over them.

    Raises:
        SacmaError: the user's file is missing or not of the form that ``archives.yaml`` shows.
    """
    ours = resources.files("sacma").joinpath("data", "facts", "archives.yaml").read_text(encoding="utf-8")
    archives = _parsed("archives.yaml", ours)
    if addresses is not None:
        try:
            text = addresses.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SacmaError(f"{addresses}: cannot be read ({error}); expected a YAML file") from error
        for benchmark, entries in _parsed(str(addresses), text).items():
            archives[benchmark] = archives.get(benchmark, {}) | entries
    return archives


def _parsed(source: str, text: str) -> dict[str, dict[str, Archive]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SacmaError(f"{source}: not YAML ({error})") from error
    _expect(source, "the file", content, Mapping, "benchmark: {features: {urls: [...], sha256: ...}}")
    for benchmark, entries in content.items():
        _expect(source, str(benchmark), entries, Mapping, "features: {urls: [...], sha256: ...}")
    return {
        str(benchmark): {
            str(features): _parsed_archive(source, f"{benchmark}.{features}", entry)
            for features, entry in entries.items()
        }
        for benchmark, entries in content.items()
    }


def _parsed_archive(source: str, name: str, entry: Any) -> Archive:
    _expect(source, name, entry, Mapping, "urls and sha256")
    if unknown := sorted(map(str, entry.keys() - {"urls", "sha256"})):
        raise SacmaError(f"{source}: {name} has {', '.join(unknown)}; expected urls and sha256 alone")
    urls, checksum = entry.get("urls", []), entry.get("sha256")
    _expect(source, f"{name}.urls", urls, list, "a list of addresses")
    if bad := [url for url in urls if not str(url).startswith(("http://", "https://"))]:
        raise SacmaError(f"{source}: {name}.urls has {bad[0]!r}; expected addresses with http:// or https://")
    if checksum is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", str(checksum)):
        raise SacmaError(f"{source}: {name}.sha256 is {checksum!r}; expected 64 hexadecimal digits, or null")
    return Archive(tuple(map(str, urls)), None if checksum is None else str(checksum).lower())


def _expect(source: str, name: str, value: Any, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise SacmaError(f"{source}: {name} is {value!r}; expected {wanted}")


def _archive(archives: Mapping[str, Mapping[str, Archive]], benchmark: str, features: str) -> Archive:
    if benchmark not in archives:
        raise SacmaError(f"no archive of benchmark {benchmark!r} is known; choose from {', '.join(archives)}")
    if features not in archives[benchmark]:
        known = ", ".join(archives[benchmark])
        raise SacmaError(f"no archive of {features!r} features of {benchmark} is known; choose from {known}")
    return archives[benchmark][features]


def _root(folder: Path) -> Path:
    """The outermost folder in the archive that looks like a benchmark's; the archive's own if none does."""
    level = [folder]
    for _ in range(_DEEPEST):
        for place in level:
            if any((place / part).is_dir() for part in ("class-split", "features", "_features_processed")):
                return place
        level = sorted(inner for place in level for inner in place.iterdir() if inner.is_dir())
    return folder


def _missing(root: Path, features: str) -> tuple[str, ...]:
    folder = _FOLDERS.get(features, "*")
    wanted = ["class-split/all_class.txt", "class-split/*_split", "class-split/*_w2v_class_names.csv"]
    wanted.append(f"features/{folder}/text")
    if not any(root.glob(f"_features_processed/{folder}")):  # the official code's copy of both does as well
        wanted += [f"features/{folder}/audio", f"features/{folder}/video"]
    return tuple(path for path in wanted if not any(root.glob(path)))
