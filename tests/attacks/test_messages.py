"""Messages about what a stranger wrote: soon, short, on one line; and text files read within bounds."""

from __future__ import annotations

import ast
import codecs
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sacma
from sacma.data.download import read_archives
from sacma.data.official.feature_files import read_temporal
from sacma.errors import SacmaError, one_line, printable
from sacma.files import MOST_YAML, parse_yaml, read_json, read_text
from sacma.studies.tuning import read_space


def nest(kind: type[Any] = tuple, depth: int = 20) -> Any:
    """A value of a few hundred bytes whose ``repr`` has 10^20 items."""
    value: Any = "x"
    for _ in range(depth):
        value = kind([value] * 10)
    return value


class Asks:
    """What a pickle calls when it is read."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


VALUES = {
    "tuples": nest(),
    "lists": nest(list),
    "dictionary": {"key": nest()},
    "list of tuples": [nest()] * 10,
    "number": 10**5000,
    "bytes": b"x" * 10**6,
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_shown_soon_and_short(kind: str) -> None:
    value = VALUES[kind]
    started = time.monotonic()
    assert len(printable(value)) < 300
    assert len(one_line(KeyError(value))) < 300
    assert time.monotonic() - started < 1


def test_ordinary_values_are_shown_as_they_are() -> None:
    for value in ("ant", b"ant", 3, 0.5, None, True, [1, "a"], (1, 2), {"a": 1}):
        assert printable(value) == repr(value)
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError("a")) == "'a'"


@pytest.mark.parametrize(
    "asked",
    [
        Asks(np.dtype, (nest(), False, True)),
        Asks(codecs.encode, ("x", nest())),
        Asks(
            np.ndarray.__reduce__(np.zeros(2))[0],
            (np.ndarray, (0,), b"b"),
            (1, (nest(),), np.dtype("f4"), False, b""),
        ),
        Asks(
            np.ndarray.__reduce__(np.zeros(2))[0],
            (np.ndarray, (0,), b"b"),
            (1, (10**70,) * 100_000, np.dtype("f4"), False, b""),
        ),
        Asks(
            np.ndarray.__reduce__(np.zeros(2))[0],
            (np.ndarray, (0,), b"b"),
            (1, (nest(),), np.dtype("O"), False, []),
        ),
    ],
    ids=["data type", "encoding", "shape", "sizes", "objects"],
)
def test_pickles_whose_parts_have_no_end(asked: Asks, tmp_path: Path) -> None:
    path = tmp_path / "ant.pkl"
    path.write_bytes(pickle.dumps({"features": asked, "video_names": ["a"]}, protocol=4))
    started = time.monotonic()
    with pytest.raises(SacmaError) as refused:
        read_temporal(path)
    assert time.monotonic() - started < 30
    assert len(str(refused.value)) < 1000


ANCHORS = "&a [x,x,x]"
for _level in range(20):
    ANCHORS = f"[&b{_level} {ANCHORS}, *b{_level}]"
YAMLS = {
    "date": "ucf: 2001-99-99",
    "number": "a: !!int x",
    "time": "a: !!timestamp x",
    "digits": "a: " + "9" * 5000,
    "deep": "[" * 3000,
    "deep blocks": "- " * 3000 + "x",
    "anchors": f"ucf: {ANCHORS}",
    "long": "a: " + "x" * MOST_YAML,
    "object": "a: !!python/object/apply:os.system [true]",
    "bytes": "a: !!binary ?",
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!timestamp x", "'x' is no timestamp"),
        ("a: !!int x", "'x' is no int"),
        ("a: 2001-99-99", "is no timestamp"),
    ],
)
def test_a_value_of_another_kind_is_named(text: str, said: str) -> None:
    with pytest.raises(SacmaError, match=said) as refused:
        parse_yaml(text, "given.yaml")
    assert "line 1, column 4" in str(refused.value)


@pytest.mark.parametrize("kind", YAMLS)
def test_yaml_from_outside(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(YAMLS[kind])
    started = time.monotonic()
    for read in (
        read_archives,
        lambda path: read_space(str(path)),
        lambda path: read_space(path.read_text()),
    ):
        with pytest.raises(SacmaError) as refused:
            read(path)
        assert len(str(refused.value)) < 1000
    assert time.monotonic() - started < 30


def test_plain_yaml_is_read() -> None:
    assert parse_yaml("a: [1, {b: null}]\nc: text", "it") == {"a": [1, {"b": None}], "c": "text"}


def test_a_byte_that_is_not_utf_8_does_not_bring_the_file_into_the_message(tmp_path: Path) -> None:
    path = tmp_path / "prediction.json"
    path.write_bytes(b'{"name": "' + b"secret " * 100_000 + b'\xff"}')
    with pytest.raises(SacmaError, match="UTF-8") as refused:
        read_json(path)
    assert len(str(refused.value)) < 500
    assert "secret" not in str(refused.value)


def test_text_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("ant\n")
    assert read_text(path, limit=4) == "ant\n"
    with pytest.raises(SacmaError, match="larger than 3 bytes"):
        read_text(path, limit=3)
    with pytest.raises(SacmaError, match="No such file"):
        read_text(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.pkl"
    os.mkfifo(path)
    for read in (read_text, read_json, read_archives, read_temporal, lambda path: read_space(str(path))):
        with pytest.raises(SacmaError, match="not an ordinary file"):
            read(path)


def test_nothing_else_formats_foreign_values() -> None:
    """``!r`` and ``repr`` stand in ``errors`` alone, and where a checksum or code is made of own values."""
    own = {
        "errors.py",
        "__init__.py",
        "predict/__init__.py",
        "frozen/bridge.py",
        "datasets/avshapes/folder.py",
    }
    root = Path(sacma.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        if path.relative_to(root).as_posix() in own:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and any(
                isinstance(name, ast.Name) and name.id in ("repr", "ascii")
                for name in (node.func, *node.args)
            )
            if called or (isinstance(node, ast.FormattedValue) and node.conversion in (ord("r"), ord("a"))):
                found.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not found, f"use sacma.errors.printable in {', '.join(found)}"
