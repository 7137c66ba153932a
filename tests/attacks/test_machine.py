"""A machine that does not give what is needed: one line and status 2, no crash and no traceback."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import commands
import folders
from sacma.machine import LEAST_ADDRESSES, collect_seldom, memory, out_of_memory
from sacma.models.bounds import parameters_within
from sacma.runs import folder
from sacma.training import loop

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


# --- Networks that would not fit ---------------------------------------------------------------------------


def test_a_network_is_not_built_beyond_a_limit() -> None:
    with parameters_within(100 * 100 * 4 + 100 * 4):
        net = nn.Linear(100, 100)
    assert net.weight.shape == (100, 100)
    built: list[nn.Module] = []

    def build() -> None:
        with parameters_within(100_000_000):
            for _ in range(1000):
                built.append(nn.Linear(1000, 1000))

    with pytest.raises(MemoryError, match=r"more than 0\.1 GB"):
        build()
    assert len(built) == 24  # 96 MB, and 4 kB each
    nn.Linear(10_000, 10_000)  # outside, nothing is counted


def test_this_machine_has_memory() -> None:
    assert 1 << 28 < memory() < 1 << 50


def test_depth_and_width_together_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders.write_folder(tmp_path / "toy")
    monkeypatch.setattr(loop, "memory", lambda: 1 << 20)
    deep = ("--width=100", "--depth=50", f"--out={tmp_path / 'run'}")
    line = commands.sacma("train", *commands.on(root), *commands.SMALL, *deep).line
    assert "cannot build sacma with these hyperparameters: the parameters take more than" in line
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_an_edited_configuration_asks_for_no_more_memory_than_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders.write_folder(tmp_path / "toy")
    run = commands.trained(root, tmp_path / "run")
    monkeypatch.setattr(folder, "_SLACK", 0)
    assert commands.sacma("evaluate", run).status == 0
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"depth": 1000}))
    line = commands.sacma("evaluate", run).line
    assert "are not those of sacma: the parameters take more than" in line


def test_dead_cycles_are_looked_for_seldom_but_looked_for() -> None:
    before = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.get_threshold() == (50_000, *before[1:])
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
