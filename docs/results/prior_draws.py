"""Fusion with the frozen score over draws of a simulation: means and paired 95 % intervals.

    python docs/results/prior_draws.py RUNS

reads the runs with ``--prior frozen`` under RUNS, one a draw and method, and prints for each method the HM on
test of both together, of the method and of the frozen score, and how much the first is above the others.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from sacma.metrics.significance import mean_interval
from sacma.models import METHODS
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import open_benchmark
from sacma.training.scoring import run_output


def harmonic_means(folder: RunFolder, method: str) -> dict[str, float]:
    """HM on test in percent: of the fused score, the method and the frozen score; kept in the run folder."""
    benchmark = open_benchmark(folder.config().data)
    outputs = {"alone": METHODS[method].OUTPUTS[0], "frozen": "frozen"}
    results = {name: run_output(folder, benchmark, output) for name, output in outputs.items()}
    return {name: 100 * one.test.harmonic_mean for name, one in {"fused": folder.result(), **results}.items()}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Mean difference and its interval."""
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    low, high = mean_interval(differences)
    return f"{fmean(differences):+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Print the table."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in sorted(Path(sys.argv[1]).rglob("prior.json")):
        folder = RunFolder(path.parent)
        if path.parent.name != "stage-1" and folder.finished:
            method = folder.config().method
            found[method].append(harmonic_means(folder, method))
    print("| method | draws | fused | alone | frozen | fused - alone | fused - frozen |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for method, draws in found.items():
        columns = {name: [one[name] for one in draws] for name in ("fused", "alone", "frozen")}
        means = " | ".join(f"{fmean(values):.1f}" for values in columns.values())
        gains = " | ".join(difference(columns["fused"], columns[name]) for name in ("alone", "frozen"))
        print(f"| `{method}` | {len(draws)} | {means} | {gains} |")


if __name__ == "__main__":
    main()
