"""Programs of ours that run in processes of their own: how they are started."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(module: str) -> list[str]:
    """The command of a module that is a program.

    With ``-P`` no modules come from the folder that one happens to be in, which may be a stranger's.
    """
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Variables of its process: one thread, and where this package lies."""
    found = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, found)),
    }
