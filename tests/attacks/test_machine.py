"""A machine that does not give what is needed: one line and status 2, no crash and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import commands
from sacma.machine import LEAST_ADDRESSES, out_of_memory

pytest.importorskip("resource")

SHRINKS = """
import contextlib, sys
from pathlib import Path
import numpy as np
from sacma.cli import main

if len(sys.argv) > 2:
    with contextlib.suppress(SystemExit):
        main(["--version"])
path = Path(sys.argv[1])
path.write_bytes(bytes(1 << 16))
mapped = np.memmap(path, dtype=np.uint8, mode="r")
with path.open("r+b") as file:
    file.truncate(0)
print(mapped.sum())
"""
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
from sacma.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_mapped_file_that_gets_shorter(tmp_path: Path) -> None:
    without = run(SHRINKS, tmp_path / "a")
    assert without.returncode < 0, "this system does not mind, so the test shows nothing"
    ended = run(SHRINKS, tmp_path / "a", "sacma")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == (
        "sacma: a file that is in use became shorter, or its disk is gone; write or copy it again\n"
    )


@pytest.mark.parametrize("limit", [LEAST_ADDRESSES // 4, LEAST_ADDRESSES - 1])
def test_a_limit_on_addresses(limit: int, tmp_path: Path) -> None:
    ended = run(LIMITED, limit, "data", "check", "--benchmark=ucf", "--features=selavi", f"--root={tmp_path}")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("sacma: this process may have ")
    assert ended.stderr.count("\n") == 1
    assert "ulimit -v" in ended.stderr


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (ImportError("libarrow.so.2600: failed to map segment from shared object"), True),
        (RuntimeError("shapes do not fit"), False),
        (ImportError("no module named x"), False),
    ],
)
def test_what_libraries_raise_without_memory(
    error: Exception, memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert out_of_memory(error) is memory

    def fails(*_: object, **__: object) -> None:
        """It fails."""
        raise error

    monkeypatch.setitem(commands.main.__globals__["DATA_COMMANDS"], "info", fails)
    monkeypatch.setattr("sacma.commands.parsers.arguments_of", lambda *_: {})
    if memory:
        assert "not enough memory" in commands.sacma("data", "info").line
    else:
        with pytest.raises(type(error)):
            commands.sacma("data", "info")
