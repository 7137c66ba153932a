"""Plans the import of an official folder: all that will be read, with a digest of the files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacma.data.class_lists import check_benchmark
from sacma.data.clips_file import CLIPS_FILE, VERSION
from sacma.data.official.caches import cache_sources
from sacma.data.official.class_files import class_file_sources
from sacma.data.official.feature_files import (
    class_files,
)
from sacma.data.official.source import Source, stamp
from sacma.errors import SacmaError


@dataclass(frozen=True)
class Plan:
    """All that an import will read.

    Attributes:
        classes: names of all classes, sorted.
        sources: the pieces in the order in which they are written.
        provenance: what is read, with size and time of change (ns) of every file.
        stamp: digest of the files and of the lengths of a step.
    """

    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    provenance: Mapping[str, Any]
    stamp: str


def plan_import(root: Path, benchmark: str, folder: str, steps: tuple[float, float]) -> Plan:
    features = root / "features" / folder
    if not root.is_dir():
        raise SacmaError(f"{root}: no such folder; expected one with class-split/ and features/")
    if (features / CLIPS_FILE).is_file():
        raise SacmaError(f"{features} holds {CLIPS_FILE}, so it is imported already; use {root} as it is")
    check_benchmark(root / "class-split", benchmark)
    if any(class_files(folder) for folder in features.glob("*/stage_*")):
        sources = class_file_sources(root, features)
    else:
        sources = cache_sources(root, benchmark, folder)
    others = [*class_split_files(root), *text_files(features)]
    files = {_name_of(path, root): stamp(path) for path in [*sources.files, *others]}
    content = json.dumps([VERSION, sorted(files.items()), steps])
    digest = hashlib.sha256(content.encode()).hexdigest()
    provenance = {
        "extractor": "official features",
        "source": str(root.resolve()),
        "benchmark": benchmark,
        "folder": folder,
        "stamp": digest,
        "files": files,
    }
    return Plan(sources.classes, sources.pieces, provenance, digest)


def class_split_files(root: Path) -> list[Path]:
    """Find the class lists of a folder, sorted."""
    found = (root / "class-split").glob("**/*")
    return sorted(path for path in found if path.suffix in (".txt", ".csv") and not path.name.startswith("."))


def text_files(features: Path) -> list[Path]:
    """Find the tables of class vectors of a folder of features, sorted."""
    """Find the class lists of a folder, sorted."""
    found = (features / "text").glob("*.np[yz]")
    return sorted(path for path in found if not path.name.startswith("."))


def _name_of(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
