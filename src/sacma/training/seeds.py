"""Runs of one configuration: a new one, one that is continued, and several seeds of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sacma import distributed
from sacma.data.benchmark import Benchmark
from sacma.files import write_json
from sacma.progress import SILENT, Reporter
from sacma.runs.config import RunConfig
from sacma.runs.folder import RunFolder
from sacma.runs.records import RunResult, RunSummary
from sacma.training.protocol import run, stage_1_method


def start_run(
    config: RunConfig, benchmark: Benchmark, path: Path, reporter: Reporter = SILENT, *, force: bool = False
) -> RunResult:
    """Start a run in a new folder, and finish it.

    The method of stage 1 is built before there is a folder, so that hyperparameters that do not go together
    leave none behind.

    Args:
        config: of the run.
        benchmark: of the run, opened.
        path: folder of the run.
        reporter: told how training goes.
        force: overwrite a run that is there.

    Raises:
        SacmaError: the method cannot be built, the folder holds something already, or as ``run``.
    """
    method = stage_1_method(config, benchmark)
    folder = RunFolder.create(path, config, force=force)
    return run(config, benchmark, folder, reporter, method=method)


def run_seed(
    config: RunConfig, benchmark: Benchmark, path: Path, reporter: Reporter = SILENT, *, force: bool = False
) -> RunResult:
    """Run one configuration in a folder: start it, continue it, or only read it where it is finished.

    Raises:
        SacmaError: the folder holds a run with other options, or as ``start_run``.
    """
    if force or not distributed.on_main((path / "config.yaml").exists):
        return start_run(config, benchmark, path, reporter, force=force)
    return run(config, benchmark, RunFolder.open(path, config=config), reporter)


def run_seeds(
    config: RunConfig,
    benchmark: Benchmark,
    folder: Path,
    reporter: Reporter = SILENT,
    *,
    seeds: int,
    force: bool = False,
) -> RunSummary:
    """Run the seeds from config.seed on, each in ``folder/seed-N``, and write ``folder/summary.json``.

    Finished seeds are kept and unfinished ones continued.

    Raises:
        SacmaError: the folder holds runs with other options, or a seed is too large.
    """
    configs = [dataclasses.replace(config, seed=seed) for seed in range(config.seed, config.seed + seeds)]
    results = []
    for one in configs:
        reporter.say(f"seed {one.seed}")
        results.append(run_seed(one, benchmark, folder / f"seed-{one.seed}", reporter, force=force))
    summary = RunSummary.of(results)
    if distributed.is_main():
        write_json(folder / "summary.json", summary.to_dict())
    return summary
