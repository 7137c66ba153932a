"""The published archives of features: addresses, download, and a check of their layout.

Addresses are data, not code: ``facts/archives.yaml``, and a user's own file of the same form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sacma import files
from sacma.data.fetching import OnBytes, fetch
from sacma.data.unpacking import extract_zip
from sacma.errors import SacmaError, printable


@dataclass(frozen=True)
class Archive:
    """Addresses and checksum of an archive.

    Attributes:
        urls: addresses of the same file, the first preferred; empty where none is known.
        sha256: checksum in hexadecimal; None where none is known.
    """

    urls: tuple[str, ...]
    sha256: str | None


@dataclass(frozen=True)
class Downloaded:
    """Result of ``download``.

    Attributes:
        root: the folder with ``class-split/`` and ``features/``; without one, the folder of the archive.
        missing: paths below ``root`` that the layout of a benchmark needs and the archive lacks.
        verified: the archive had the checksum that was expected; False where none is known.
    """

    root: Path
    missing: tuple[str, ...]
    verified: bool


_FOLDERS = {"selavi": "main_features_non_averaged", "c3d-vggish": "cls_features_non_averaged"}
_DEEPEST = 4
"""Folders that may lie around the root in an archive."""


def download(
    benchmark: str,
    features: str,
    out: Path,
    *,
    addresses: Path | None = None,
    on_progress: OnBytes | None = None,
) -> Downloaded:
    """Fetch and unpack the archive of a benchmark's features, into ``out/<benchmark>-<features>``.

    The content of the archives is not documented: ``Downloaded.missing`` names the files of the layout that
    an archive lacks. An archive that was unpacked before is not fetched again.

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
    """Read the archives by benchmark and features; entries of a user's file replace ours.

    Raises:
        SacmaError: the user's file is missing or not of the form that ``archives.yaml`` shows.
    """
    ours = resources.files("sacma").joinpath("data", "facts", "archives.yaml").read_text(encoding="utf-8")
    archives = _parsed("archives.yaml", ours)
    if addresses is not None:
        text = files.read_text(addresses, limit=files.MOST_YAML)
        for benchmark, entries in _parsed(str(addresses), text).items():
            archives[benchmark] = archives.get(benchmark, {}) | entries
    return archives


def _parsed(source: str, text: str) -> dict[str, dict[str, Archive]]:
    content = files.parse_yaml(text, source)
    _expect(source, "the file", content, Mapping, "benchmark: {features: {urls: [...], sha256: ...}}")
    for benchmark, entries in content.items():
        _expect(source, _name(source, benchmark), entries, Mapping, "features: {urls: [...], sha256: ...}")
    return {
        _name(source, benchmark): {
            _name(source, features): _parsed_archive(source, f"{benchmark}.{features}", entry)
            for features, entry in entries.items()
        }
        for benchmark, entries in content.items()
    }


def _parsed_archive(source: str, name: str, entry: Any) -> Archive:
    _expect(source, name, entry, Mapping, "urls and sha256")
    if unknown := [key for key in entry if key not in ("urls", "sha256")]:
        raise SacmaError(f"{source}: {name} has {printable(unknown)}; expected urls and sha256 alone")
    urls, checksum = entry.get("urls", []), entry.get("sha256")
    _expect(source, f"{name}.urls", urls, list, "a list of addresses")
    if bad := [url for url in urls if not _is_address(url)]:
        raise SacmaError(
            f"{source}: {name}.urls has {printable(bad[0])}; expected addresses with http:// or https://"
        )
    if checksum is not None and not _is_checksum(checksum):
        raise SacmaError(
            f"{source}: {name}.sha256 is {printable(checksum)}; expected 64 hexadecimal digits, or null"
        )
    return Archive(tuple(urls), None if checksum is None else checksum.lower())


def _is_address(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _is_checksum(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) is not None


def _name(source: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > 100:
        raise SacmaError(f"{source}: {printable(value)} is no name of a benchmark or of features")
    return value


def _expect(source: str, name: str, value: Any, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise SacmaError(f"{source}: {name} is {printable(value)}; expected {wanted}")


def _archive(archives: Mapping[str, Mapping[str, Archive]], benchmark: str, features: str) -> Archive:
    if benchmark not in archives:
        raise SacmaError(
            f"no archive of benchmark {printable(benchmark)} is known; choose from {', '.join(archives)}"
        )
    if features not in archives[benchmark]:
        known = ", ".join(archives[benchmark])
        raise SacmaError(
            f"no archive of {printable(features)} features of {benchmark} is known; choose from {known}"
        )
    return archives[benchmark][features]


def _root(folder: Path) -> Path:
    """Find the outermost folder that looks like a benchmark's; without one, return the archive's folder."""
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
    if not any(
        root.glob(f"_features_processed/{folder}")
    ):  # the published code's cache of both serves as well
        wanted += [f"features/{folder}/audio", f"features/{folder}/video"]
    return tuple(path for path in wanted if not any(root.glob(path)))
