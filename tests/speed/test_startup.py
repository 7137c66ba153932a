"""The measuring of commands beside ``import torch``; the figures themselves are no test."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "speed"))

from sacma.cli import COMMANDS, GROUPS
from startup import TARGETS, measure


def test_processor_time_tells_work_from_waiting() -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass"
    found = measure({"work": work, "wait": "import time; time.sleep(0.5)"}, 1)
    assert found["work"].processor >= 0.5 > found["wait"].processor
    assert min(one.wall for one in found.values()) >= 0.5


def test_targets_are_of_commands_that_there_are() -> None:
    assert {name.split()[0] for name in TARGETS} <= {"--help", "--version", *COMMANDS, *GROUPS}
