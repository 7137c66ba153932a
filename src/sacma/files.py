"""Files: read with clear errors, written whole or not at all, kept in the cache folder."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_cache_path

from sacma.errors import SacmaError, one_line, printable


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
        clear_partials(target.parent, f".{target.name}")
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


def clear_partials(folder: Path, name: str) -> None:
    """Remove what processes of this machine left half written when they were killed.

    Args:
        folder: where it lies.
        name: what stands before ``.PID.partial``.
    """
    for path in folder.glob(f"{glob.escape(name)}.*.partial"):
        process = path.name.removeprefix(f"{name}.").removesuffix(".partial")
        if process.isdecimal() and len(process) < 10 and not _runs(int(process)):
            remove(path)


def _runs(process: int) -> bool:
    """True for a process that runs, and where that cannot be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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


MOST_TEXT = 16 << 20
"""Bytes of a text file that is read whole, where nothing else is said."""
MOST_TABLE = 256 << 20
"""The same of a CSV table, which may have a line for each clip."""
MOST_YAML = 256 << 10
DEEPEST_YAML = 20


def read_text(path: Path, *, limit: int = MOST_TEXT) -> str:
    """Read a text file in UTF-8, whole.

    Args:
        path: an ordinary file; a pipe may never end.
        limit: its bytes, at most.

    Raises:
        SacmaError: missing, no ordinary file, larger than that, or not UTF-8.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SacmaError(f"{path}: not an ordinary file; write what it gives to a file first")
            content = file.read(limit + 1)
    except (OSError, MemoryError) as error:
        detail = getattr(error, "strerror", None) or "not enough memory"
        raise SacmaError(f"cannot read {path}: {detail}") from error
    if len(content) > limit:
        raise SacmaError(f"{path}: larger than {limit} bytes, the most that is read of such a file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SacmaError(
            f"{path}: damaged, or not text in UTF-8 ({one_line(error)}); save it as UTF-8"
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or opening a pipe waits for its writer


def parse_json(text: str, source: str) -> Any:
    """Read JSON from outside.

    Args:
        text: the JSON.
        source: where it came from, for messages.

    Raises:
        SacmaError: it is not JSON, or too deeply nested.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SacmaError(f"cannot read {source}: {one_line(error, limit=200)}") from error


class _PlainLoader(yaml.SafeLoader):
    """YAML without anchors, by which a few lines can stand for gigabytes, and without deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not read; write the values out")
        self.depth += 1
        if self.depth > DEEPEST_YAML:
            raise yaml.YAMLError(f"nested more than {DEEPEST_YAML} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # whatever a wrong number or date raises
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{printable(node.value)} is no {kind}", node.start_mark
            ) from error


def parse_yaml(text: str, source: str) -> Any:
    """Read YAML from outside: plain values, lists and mappings.

    Args:
        text: the YAML, up to ``MOST_YAML`` bytes.
        source: where it came from, for messages.

    Raises:
        SacmaError: it is not YAML, too long or too deeply nested, or it has anchors.
    """
    if len(text) > MOST_YAML:
        raise SacmaError(f"{source}: YAML of more than {MOST_YAML} characters; shorten it")
    try:
        return yaml.load(text, Loader=_PlainLoader)
    # Besides its own error, the library passes on whatever a wrong number or date raises.
    except Exception as error:
        detail = one_line(error, limit=300) or type(error).__name__
        raise SacmaError(f"{source} is not readable YAML: {detail}") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file from outside, see ``parse_yaml``.

    Raises:
        SacmaError: missing, or as ``parse_yaml``.
    """
    return parse_yaml(read_text(path, limit=MOST_YAML), str(path))


def read_json(path: Path, *, limit: int = MOST_TEXT) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: an ordinary file.
        limit: its bytes, at most.

    Raises:
        SacmaError: missing, damaged, too large or not an object.
    """
    content = parse_json(read_text(path, limit=limit), str(path))
    if not isinstance(content, dict):
        raise SacmaError(f"{path}: it should hold a JSON object")
    return content


def is_number(value: Any) -> bool:
    """True for a finite JSON number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def are_numbers(value: object) -> bool:
    """True for a JSON object of finite numbers."""
    return isinstance(value, dict) and all(isinstance(k, str) and is_number(v) for k, v in value.items())


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
        if path.exists() and not path.is_file():  # to open a pipe would wait for its writer
            raise SacmaError(f"{path}: not an ordinary file; give a file")
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
        detail = one_line(error, limit=200) or type(error).__name__
        raise SacmaError(
            f"{path}: damaged, cut short or of another kind ({detail}); get the file again"
        ) from error
