"""Files: read with clear errors, written whole or not at all, kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from sacma.errors import SacmaError, one_line


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write a file or folder to; on success it takes its place.

    A reader sees the old content or the new, never a part; whatever goes wrong, what was written is removed.

    Raises:
        SacmaError: the disk is full or the folder cannot be written to; ``target`` is as it was.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if partial.is_dir():
            if target.exists():
                raise SacmaError(f"{target} exists already; remove it or choose another place")
        else:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        partial.replace(target)
    except OSError as error:
        raise SacmaError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def write_text(target: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(target, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SacmaError: missing, damaged or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SacmaError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise SacmaError(f"{path} should hold a JSON object")
    return content


def is_number(value: Any) -> bool:
    """True for a finite JSON number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where converted and rendered data is kept: ``$SACMA_CACHE``, by default the user's cache folder."""
    chosen = os.environ.get("SACMA_CACHE")
    return Path(chosen) if chosen else user_cache_path("sacma")


class RefusedError(Exception):
    """A file asks for something that only a program needs; the message says for what."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error while a file is read into one line for the user.

    Raises:
        SacmaError: no such file, damaged, of another kind, or asking for code to be run.
    """
    try:
        yield
    except SacmaError:
        raise
    except RefusedError as error:
        raise SacmaError(
            f"{path}: sacma refuses to run code from a file, and this one asks for {error}; features are "
            "arrays, text and numbers, so get the file again from a source that you trust"
        ) from error
    except FileNotFoundError as error:
        raise SacmaError(f"{path}: no such file") from error
    except PermissionError as error:
        raise SacmaError(f"{path}: no permission to read it") from error
    # What is wrong in a damaged file may come to light as almost any exception.
    except Exception as error:
        detail = one_line(error)[:200] or type(error).__name__
        raise SacmaError(
            f"{path}: damaged, cut short or of another kind ({detail}); get the file again"
        ) from error
