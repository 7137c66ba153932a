"""The folder of a taught model, which every kill and every full disk leaves usable.

    learned.json    the frozen model that it rests on, and figures
    log.jsonl       what was taught, a line each; the state is what its lines give one after another
    clips/ID.npz    features of each clip, by its content
    fitted.npz      vectors and weights; made again where it does not fit the log

Lines are only added. ``undo`` adds a line too, which takes back the last one that stands. A clip's features
are there before a line names it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sacma.errors import SacmaError, one_line, printable
from sacma.files import read_json, read_text, reading, replacing, write_json
from sacma.frozen.descriptions import ClassName
from sacma.frozen.scores import clip_features
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures
from sacma.text.names import normal

FACTS, LOG, CLIPS, FITTED = "learned.json", "log.jsonl", "clips", "fitted.npz"
FORMAT = 1
_MOST_LOG = 1 << 30
_PATIENCE = 30.0
"""Seconds that one who teaches waits for another."""


@dataclass(frozen=True)
class Taught:
    """A clip that was given as an example.

    Attributes:
        id: of its content and part.
        path: where it was.
        start: seconds where its part begins.
        end: seconds where it ends.
        size: bytes of the file; None where nobody noted it.
        modified: its time of change in nanoseconds.
    """

    id: str
    path: str
    start: float | None = None
    end: float | None = None
    size: int | None = None
    modified: int | None = None


@dataclass
class State:
    """Lessons of a model, taken together.

    Attributes:
        classes: normal form of a name -> the name and its descriptions.
        clips: id -> the clip.
        labels: id -> normal form of the name of its class.
        corrected: ids of clips that were taught last by a correction.
    """

    classes: dict[str, ClassName] = field(default_factory=dict)
    clips: dict[str, Taught] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    corrected: set[str] = field(default_factory=set)


def clip_id(path: str | Path, start: float | None, end: float | None) -> str:
    """The same for the same bytes and part, wherever the file lies.

    Raises:
        SacmaError: the file cannot be read.
    """
    file = Path(path)
    with reading(file), file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    digest.update(f"{start} {end}".encode())
    return digest.hexdigest()[:20]


def found_id(clips: Iterable[Taught], path: str | Path, start: float | None, end: float | None) -> str | None:
    """The id of a file among clips, None where it is none of them; it is read only where its size is theirs.

    Args:
        clips: those that are known.
        path: of the file.
        start: seconds where the part of it begins.
        end: seconds where it ends.

    Raises:
        SacmaError: the file cannot be read.
    """
    file = Path(path)
    with reading(file):
        status = file.stat()
    same = [one for one in clips if (one.start, one.end) == (start, end)]
    same = [one for one in same if one.size is None or one.size == status.st_size]
    for one in same:
        if (one.path, one.size, one.modified) == (
            str(file.absolute()),
            status.st_size,
            status.st_mtime_ns,
        ):
            return one.id
    made = clip_id(path, start, end) if same else None
    return made if made in {one.id for one in same} else None


class Store:
    """A model's folder.

    Args:
        folder: of the model.

    Raises:
        SacmaError: it is no such folder, of a later version, or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / FACTS).is_file():
            raise SacmaError(
                f"{folder}: no taught model there; make one with sacma learn CLIPS --out {folder}"
            )
        self.facts = read_json(self.folder / FACTS)
        if self.facts.get("format") != FORMAT:
            raise SacmaError(
                f"{folder}: a taught model of format {printable(self.facts.get('format'))}, not {FORMAT}; "
                "use the version that made it, or learn it anew"
            )

    @classmethod
    def make(cls, folder: Path, facts: Mapping[str, Any]) -> Store:
        """A folder without any lesson, made anew or found as an interrupted ``learn`` left it.

        Raises:
            SacmaError: there is something else.
        """
        if folder.exists() and not folder.is_dir():
            raise SacmaError(f"{folder} is a file; choose another place")
        strange = [p.name for p in folder.iterdir() if p.name not in (FACTS, LOG, CLIPS, FITTED, "lock")
                   and not p.name.endswith(".partial")] if folder.is_dir() else []  # fmt: skip
        if strange:
            raise SacmaError(f"{folder} has {printable(strange[0])} in it; choose an empty place")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FACTS, {"format": FORMAT, **facts})
        return cls(folder)

    # --- Features -------------------------------------------------------------------------------------

    def has(self, clip: str) -> bool:
        """The features of a clip are there."""
        return self._clip(clip).is_file()

    def keep(self, clip: str, features: ClipFeatures) -> None:
        """Write the features of a clip, whole or not at all."""
        arrays: dict[str, Any] = {
            "seconds": np.array(np.nan if features.seconds is None else features.seconds)
        }
        for kind in ("audio", "video", "joint"):
            steps = getattr(features, kind, None)
            if steps is not None:
                arrays |= {kind: steps.values, f"{kind}_seconds": steps.seconds}
        with replacing(self._clip(clip)) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    def features(self, clip: str) -> ClipFeatures:
        """The features of a clip.

        Raises:
            SacmaError: they are missing or damaged.
        """
        path = self._clip(clip)
        with reading(path), np.load(path, allow_pickle=False) as arrays:
            steps = {
                kind: Steps(arrays[kind], arrays[f"{kind}_seconds"])
                for kind in ("audio", "video", "joint")
                if kind in arrays
            }
            said = float(arrays["seconds"])
        return clip_features(steps, seconds=None if np.isnan(said) else said)

    def _clip(self, clip: str) -> Path:
        return self.folder / CLIPS / f"{clip}.npz"

    # --- Lessons --------------------------------------------------------------------------------------

    def lessons(self) -> list[dict[str, Any]]:
        """The lines of the log that stand, oldest first; a line that a kill cut short counts as not written.

        Raises:
            SacmaError: the log cannot be read.
        """
        path = self.folder / LOG
        if not path.is_file():
            return []
        *lines, _cut_short = read_text(path, limit=_MOST_LOG).split("\n")
        standing: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            try:
                lesson = json.loads(line)
                if lesson["do"] == "undo":
                    standing.pop()
                else:
                    standing.append(lesson)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise SacmaError(
                    f"{path}, line {number}: damaged ({one_line(error)}); take it out"
                ) from error
        return standing

    def state(self) -> State:
        """Join the lessons that stand.

        Raises:
            SacmaError: see ``lessons``; or a line lacks what it should have.
        """
        state = State()
        for lesson in self.lessons():
            try:
                for one in lesson["classes"]:
                    given = ClassName(one["name"], tuple(one["descriptions"]))
                    key = normal(given.name)
                    if key not in state.classes or given.descriptions:
                        state.classes[key] = given
                for one in lesson["clips"]:
                    facts = one.get("size"), one.get("modified")
                    clip = Taught(one["id"], one["path"], one["start"], one["end"], *facts)
                    state.clips[clip.id] = clip
                    state.labels.pop(clip.id, None)  # the last one taught stands last
                    state.labels[clip.id] = normal(one["class"])
                    (state.corrected.add if lesson["do"] == "correct" else state.corrected.discard)(clip.id)
            except (KeyError, TypeError) as error:
                raise SacmaError(
                    f"{self.folder / LOG}: a line lacks {one_line(error)}; take it out"
                ) from error
        return state

    def add(
        self, do: str, classes: Sequence[ClassName] = (), clips: Sequence[tuple[Taught, str]] = ()
    ) -> dict[str, Any]:
        """Add a line to the log.

        Args:
            do: what is done, such as ``correct``.
            classes: names that are new, or have new descriptions.
            clips: clips, each with its class.

        Raises:
            SacmaError: the disk is full, or another process teaches the model for long.
        """
        line = {
            "do": do,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "classes": [{"name": one.name, "descriptions": one.descriptions} for one in classes],
            "clips": [{**asdict(clip), "class": name} for clip, name in clips],
        }
        path = self.folder / LOG
        written = (json.dumps(line) + "\n").encode()
        try:
            with self.alone(), open(path, "ab") as file:
                end = _whole_lines(path)
                file.truncate(end)
                file.seek(end)
                try:
                    file.write(written)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise SacmaError(f"cannot write {path}: {error.strerror or error}; free some space") from error
        return line

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from teaching the model meanwhile.

        Raises:
            SacmaError: another process does so for long.
        """
        try:
            with FileLock(self.folder / "lock", timeout=_PATIENCE):
                yield
        except Timeout as error:
            raise SacmaError(f"{self.folder}: another process is teaching it; try again later") from error

    def digest(self) -> str:
        """Of all that stands in the log and of the model beneath."""
        kept = json.dumps([self.facts.get("model"), self.facts.get("prompts"), self.lessons()])
        return hashlib.sha256(kept.encode()).hexdigest()

    def keep_facts(self, **facts: Any) -> None:
        """Write facts of the model beside those that are there."""
        self.facts = {**self.facts, **facts}
        write_json(self.folder / FACTS, self.facts)


def _whole_lines(path: Path) -> int:
    """Bytes of a file up to the end of its last whole line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        step = 1 << 16
        for start in range(max(0, size - step), -step, -step):
            file.seek(max(0, start))
            found = file.read(step + 1).rfind(b"\n")
            if found >= 0:
                return max(0, start) + found + 1
    return 0
