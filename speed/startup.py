"""Seconds until a command has answered, as a share of those of ``import torch``.

    python speed/startup.py [--repeats 5]

Each round starts every command once, in a process of its own, and ``import torch`` beside them; a ratio is
that of the medians. Processor time is compared, as other programs share the machine; wall time stands beside.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

TARGETS = {
    "--version": 0.1,
    "--help": 0.1,
    "data --help": 0.2,
    "evaluate --help": 0.2,
    "extract --help": 0.2,
    "predict --help": 0.2,
    "train --help": 0.2,
    "data info": 0.3,
}
"""Command -> the largest share of the time of ``import torch`` that it should take."""
TORCH = "import torch"
PREDICTOR, PREDICTOR_TARGET = "from sacma.predict.predictor import Predictor", 1.2
"""All that an answer from extracted features imports, torch included."""
SELDOM = "from sacma.machine import collect_seldom; collect_seldom(); "
"""As the command line does before anything else."""


class Seconds(NamedTuple):
    """Time of a process, from its start to its end.

    Attributes:
        processor: user's and system's.
        wall: by the clock.
    """

    processor: float
    wall: float


def seconds(code: str) -> Seconds:
    """The time of a fresh Python that runs some code."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall)


def measure(programs: dict[str, str], repeats: int) -> dict[str, Seconds]:
    """Medians by name, of programs that take turns.

    Args:
        programs: name -> code.
        repeats: rounds; one more before them is not counted, as it fills the caches of files.
    """
    rounds = [{name: seconds(code) for name, code in programs.items()} for _ in range(repeats + 1)][1:]
    return {
        name: Seconds(
            *(statistics.median(values) for values in zip(*(one[name] for one in rounds), strict=True))
        )
        for name in programs
    }


def main() -> int:
    """Print a line a command; the status is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="Time of commands beside import torch.")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    options = parser.parse_args()
    run = "import sys; from sacma.cli import main; sys.exit(main({!r}))"
    commands = {f"sacma {name}": (run.format(name.split()), target) for name, target in TARGETS.items()}
    timed = commands | {
        f"{PREDICTOR}, by the command line": (SELDOM + PREDICTOR, PREDICTOR_TARGET),
        f"{PREDICTOR}, in a program": (PREDICTOR, PREDICTOR_TARGET),
    }
    programs = {TORCH: TORCH} | {name: code for name, (code, _) in timed.items()}
    found = measure(programs, options.repeats)
    torch, missed = found[TORCH], 0
    print(f"{TORCH}: {torch.processor:.2f} s of the processor, {torch.wall:.2f} s by the clock")
    for name, (_, target) in timed.items():
        ratio = found[name].processor / torch.processor
        missed += ratio > target
        verdict = "missed" if ratio > target else "reached"
        wall = found[name].wall / torch.wall
        print(f"{name}: {ratio:.3f} of it, target {target:g} {verdict}; by the clock {wall:.3f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
