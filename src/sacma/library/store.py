"""The file of a library: facts and arrays of its clips in one SQLite database.

Each clip is one transaction, so a library that was interrupted at any moment, or whose disk was full, holds
the clips that were finished. Readers may read while one process writes. What search needs is written beside
it as plain arrays (``sacma.library.arrays``) and can always be made again from this file.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sacma.errors import SacmaError, one_line, printable

FILE = "library.sqlite"
FORMAT = 1
Array = NDArray[np.float32]

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE clips (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, start REAL, "end" REAL, class TEXT NOT NULL,
    size INTEGER NOT NULL, modified INTEGER NOT NULL, sha256 TEXT NOT NULL,
    seconds REAL, notes TEXT NOT NULL, failure TEXT
);
CREATE TABLE arrays (
    clip INTEGER NOT NULL, name TEXT NOT NULL, width INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (clip, name)
);
"""
_COLUMNS = ("path", "start", '"end"', "class", "size", "modified", "sha256", "seconds", "notes")
_NEEDED = {"model", "run", "step_seconds"}
_LONGEST_WAIT = 10.0
"""Seconds that a write waits for another process to finish its own."""


@dataclass(frozen=True)
class Entry:
    """A clip of a library.

    Attributes:
        path: of the file, from the root.
        class_name: its class, by its folder or table.
        start: where its part begins, in seconds; None for the beginning.
        end: where its part ends; None for the end.
        size: bytes of the file when it was read.
        modified: its time of change, in nanoseconds.
        sha256: of the file.
        seconds: length by its features.
        notes: what was wrong with it and did not stop it.
        failure: why there are no features; None where there are.
        id: its number in the library; 0 for one that is not in it yet.
    """

    path: Path
    class_name: str
    start: float | None
    end: float | None
    size: int
    modified: int
    sha256: str
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    failure: str | None = None
    id: int = field(default=0, compare=False)

    @property
    def key(self) -> tuple[Path, float | None, float | None]:
        """Key that tells clips apart."""
        return self.path, self.start, self.end


class Store:
    """An open library file.

    Args:
        folder: of the library.
        connection: to its database.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder, self._database = folder, connection

    @classmethod
    def create(cls, folder: Path, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Self:
        """Begin a library.

        Args:
            folder: where; made if it is not there.
            facts: of the model and the windows, as JSON types.
            arrays: of the model, (T, D) each; ``of_clip(0)`` gives them.

        Raises:
            SacmaError: the folder holds other things, or cannot be written to.
        """
        check_empty(folder)
        with _guarded(folder):
            folder.mkdir(parents=True, exist_ok=True)
            store = cls(folder, _connected(folder / FILE))
            with store._database as database:
                database.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";"):
                    database.execute(statement)
                database.execute("INSERT INTO facts VALUES ('generation', 0), ('format', ?)", (FORMAT,))
                database.execute("INSERT INTO facts VALUES ('model', ?)", (json.dumps(facts),))
                _add_arrays(database, 0, arrays)
        return store

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a library.

        Raises:
            SacmaError: there is none, it is damaged, or another version wrote it.
        """
        if not is_library(folder):
            raise SacmaError(f"{folder}: no library; make one with: sacma index CLIPS --out {folder}")
        with _guarded(folder):
            store = cls(folder, _connected(folder / FILE))
            found = store._fact("format")
            if found != FORMAT:
                raise SacmaError(
                    f"{folder}: a library of format {printable(found)}, this version reads {FORMAT}; index "
                    "the clips into a new folder"
                )
            store.facts  # noqa: B018 - is it readable?
        return store

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- Facts ------------------------------------------------------------------------------------------

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the model and the windows.

        Raises:
            SacmaError: the file is damaged.
        """
        with _guarded(self.folder):
            try:
                facts = json.loads(self._fact("model") or "")
            except (TypeError, ValueError) as error:
                raise sqlite3.DatabaseError("facts of the model") from error
            if not isinstance(facts, dict) or not facts.keys() >= _NEEDED:
                raise sqlite3.DatabaseError("facts of the model")
            return facts

    @property
    def generation(self) -> int:
        """Changes with each change of the clips."""
        with _guarded(self.folder):
            return int(self._fact("generation") or 0)

    def _fact(self, name: str) -> Any:
        row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    # --- Clips ------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All clips, in the order in which they came."""
        with _guarded(self.folder):
            rows = self._database.execute(f"SELECT id, failure, {', '.join(_COLUMNS)} FROM clips ORDER BY id")
            return [_entry(row) for row in rows]

    def arrays(self, names: Iterable[str]) -> Iterator[tuple[int, dict[str, Array]]]:
        """Number of each clip that has features, and its arrays (T, D) of these names, in their order."""
        wanted = tuple(names)
        marks = ", ".join("?" * len(wanted))
        with _guarded(self.folder):
            rows = self._database.execute(
                f"SELECT clip, name, width, data FROM arrays WHERE name IN ({marks}) ORDER BY clip", wanted
            )
            clip, held = 0, dict[str, Array]()
            for number, name, width, data in rows:
                if number != clip and held:
                    yield clip, held
                    held = {}
                clip = number
                held[name] = _array(data, width)
            if held:
                yield clip, held

    def of_clip(self, clip: int) -> dict[str, Array]:
        """All arrays (T, D) of a clip, by name."""
        with _guarded(self.folder):
            rows = self._database.execute("SELECT name, width, data FROM arrays WHERE clip = ?", (clip,))
            return {name: _array(data, width) for name, width, data in rows}

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows in all and width of the arrays of each name."""
        query = "SELECT name, SUM(LENGTH(data) / 4 / width), MAX(width) FROM arrays GROUP BY name"
        with _guarded(self.folder):
            return {name: (int(rows), int(width)) for name, rows, width in self._database.execute(query)}

    def put(self, entry: Entry, arrays: Mapping[str, Array]) -> None:
        """Add a clip, in place of the one with the same path and part.

        Raises:
            SacmaError: the disk is full, or the file cannot be written; the library is as it was.
        """
        with self._writing() as database:
            self._drop(database, [entry])
            values = (
                *(os.fsencode(entry.path), entry.start, entry.end, entry.class_name, entry.size),
                *(entry.modified, entry.sha256, entry.seconds, json.dumps(entry.notes)),
            )
            marks = ", ".join("?" * len(values))
            made = database.execute(
                f"INSERT INTO clips ({', '.join(_COLUMNS)}, failure) VALUES ({marks}, ?)",
                (*values, entry.failure),
            )
            _add_arrays(database, made.lastrowid or 0, arrays)

    def move(self, entry: Entry, new: Entry) -> None:
        """Note that a clip's file has another path, class or time of change, with the same content.

        Raises:
            SacmaError: see ``put``.
        """
        with self._writing() as database:
            database.execute(
                "UPDATE clips SET path = ?, class = ?, size = ?, modified = ? WHERE id = ?",
                (os.fsencode(new.path), new.class_name, new.size, new.modified, entry.id),
            )

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove clips.

        Raises:
            SacmaError: see ``put``.
        """
        with self._writing() as database:
            self._drop(database, entries)

    @staticmethod
    def _drop(database: sqlite3.Connection, entries: Iterable[Entry]) -> None:
        for entry in entries:
            where = 'path = ? AND start IS ? AND "end" IS ?'
            values = (os.fsencode(entry.path), entry.start, entry.end)
            database.execute(f"DELETE FROM arrays WHERE clip IN (SELECT id FROM clips WHERE {where})", values)
            database.execute(f"DELETE FROM clips WHERE {where}", values)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _guarded(self.folder), self._database as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("UPDATE facts SET value = value + 1 WHERE name = 'generation'")


def is_library(folder: str | Path) -> bool:
    """True for the folder of a library."""
    try:
        return os.stat(Path(folder) / FILE).st_size > 0  # it is empty where the first write was killed
    except (OSError, ValueError):
        return False


def check_empty(folder: Path) -> None:
    """Find out whether a library can begin in a folder.

    Raises:
        SacmaError: it holds other things.
    """
    try:
        strange = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    except FileNotFoundError:
        return
    except OSError as error:
        raise SacmaError(f"{folder}: cannot be read ({error.strerror}); name another folder") from error
    if others := set(strange) - {FILE, f"{FILE}-journal"}:
        raise SacmaError(
            f"{folder}: holds {printable(sorted(others)[0])} and is no library; name an empty folder"
        )


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the library.

    Raises:
        SacmaError: one is doing so, or the folder cannot be written to.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SacmaError(
            f"{folder}: another sacma index is at work on it; wait until it has ended"
        ) from error
    except OSError as error:
        raise SacmaError(
            f"{folder}: cannot be written to ({error.strerror or error}); name another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_LONGEST_WAIT, isolation_level=None)


def _add_arrays(database: sqlite3.Connection, clip: int, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, dtype="<f4")
        database.execute("INSERT INTO arrays VALUES (?, ?, ?, ?)", (clip, name, plain.shape[1], plain.data))


def _entry(row: tuple[Any, ...]) -> Entry:
    number, failure, path, start, end, class_name, size, modified, sha256, seconds, notes = row
    entry = Entry(
        Path(os.fsdecode(path)), class_name, start, end, size, modified, sha256, seconds or 0.0, id=number
    )
    return replace(entry, notes=tuple(json.loads(notes)), failure=failure)


def _array(data: bytes, width: int) -> Array:
    return np.frombuffer(data, dtype="<f4").reshape(-1, width)


@contextmanager
def consistent(folder: Path) -> Iterator[None]:
    """Within, what is kept in a library is put together; what does not fit is a damaged library.

    Raises:
        SacmaError: it does not fit.
    """
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise SacmaError(
            f"{folder}: damaged, its parts do not fit ({one_line(error, limit=100)}); index the clips into "
            "another"
        ) from error


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    """Turn errors of the database into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = one_line(error)
        if "full" in text or "disk I/O" in text:
            advice = (
                "the disk is full or failing; free some space and repeat the command, it goes on where it was"
            )
        elif "locked" in text:
            advice = "another process is writing to it; try again"
        elif "readonly" in text or "unable to open" in text:
            advice = f"it cannot be read or written ({text}); see to the rights of the folder"
        else:
            advice = f"damaged ({text}); index the clips into a new folder"
        raise SacmaError(f"{folder}: {advice}") from error
    except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise SacmaError(
            f"{folder}: damaged or no library ({one_line(error, limit=100)}); index the clips into another"
        ) from error
    except OSError as error:
        raise SacmaError(
            f"{folder}: cannot be written ({error.strerror or error}); name another folder"
        ) from error
