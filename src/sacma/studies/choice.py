"""Options chosen by validation, from the same list for every row of a study: equal effort for all.

Each row runs stage 1 with each choice, for its first seed, and keeps the one with the best validation HM.
Stage 2 and test are not read for the others. The folder of the run keeps stage 1, and the run continues with
its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacma.errors import SacmaError
from sacma.progress import SILENT, Reporter
from sacma.runs.config import method_class
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import benchmark_of, open_benchmark
from sacma.studies.jobs import Job, TimeLeft, run_jobs
from sacma.studies.study import Row, SettingResult, row_config, run_study, setting_name
from sacma.training.protocol import run_stage_1

Choice = Mapping[str, Any]
STEPS = ("epochs", "batches_per_epoch")


@dataclass(frozen=True)
class StageOne(Job):
    """Stage 1 of a run, in the run's own folder."""

    def is_finished(self) -> bool:
        """True where stage 1 has chosen its epoch."""
        return RunFolder(self.path).selection_path.is_file()

    def work(self) -> None:
        """Run what is left of stage 1.

        Raises:
            SacmaError: the folder holds a run with other options, or as ``run_stage_1``.
        """
        if not (self.path / "config.yaml").exists():
            RunFolder.create(self.path, self.config)
        folder = RunFolder.open(self.path, config=self.config)
        if not self.is_finished():
            run_stage_1(self.config, open_benchmark(self.config.data), folder, after_epoch=lambda row: None)


def run_chosen(
    rows: Sequence[Row],
    settings: Sequence[Choice],
    choices: Sequence[Choice],
    *,
    like: str,
    seeds: int,
    jobs: int,
    out: Path,
    reporter: Reporter = SILENT,
) -> list[SettingResult]:
    """Run rows over seeds in each setting, each row with its choice there; without choices, as they are.

    Arguments are those of ``run_study``, with the options to choose among, the same for each row.
    """
    results: list[SettingResult] = []
    for given in settings:
        chosen = rows
        if choices:
            chosen = choose(rows, given, choices, like=like, jobs=jobs, out=out, reporter=reporter)
        results += run_study(chosen, [given], like=like, seeds=seeds, jobs=jobs, out=out, reporter=reporter)
    return results


def choose(
    rows: Sequence[Row],
    given: Choice,
    choices: Sequence[Choice],
    *,
    like: str,
    jobs: int,
    out: Path,
    reporter: Reporter = SILENT,
) -> list[Row]:
    """Give each row the choice with which its stage 1 has the best HM on validation.

    Arguments are those of ``run_study``, with the options to choose among, the same for each row.

    Returns:
        The rows with the options of their choice, and a note on what was chosen among; a row as it was where
        no choice can be run with it.
    """
    benchmark = benchmark_of(given, reporter)
    tried: list[tuple[int, Choice, StageOne]] = []
    for place, row in enumerate(rows):
        for choice in _for_row(row, choices):
            try:
                config, name = row_config(_with(row, choice), given, benchmark, like=like)
            except SacmaError:  # an option that the method does not have
                continue
            folder = out / setting_name([given], like) / name / f"seed-{config.seed}"
            tried.append((place, choice, StageOne(config, folder)))
    queue = list({job.path: job for _, _, job in tried}.values())
    done, left = 0, TimeLeft(queue)

    def tell(job: Job, failure: str) -> None:
        nonlocal done
        done += 1
        reporter.say(
            f"choosing {done}/{len(queue)} {job.path.parent.name}: {failure or 'done'}{left.after(done)}"
        )

    failures = run_jobs(queue, processes=jobs, on_end=tell)
    return [
        _chosen(row, [(choice, job) for of, choice, job in tried if of == place], failures)
        for place, row in enumerate(rows)
    ]


def _for_row(row: Row, choices: Sequence[Choice]) -> list[Choice]:
    """The choices without numbers of steps, each once, where the row's method takes no steps."""
    if method_class(str(row.options["method"])).learns_by_gradient:
        return list(choices)
    without = [{name: value for name, value in one.items() if name not in STEPS} for one in choices]
    return [one for place, one in enumerate(without) if one and one not in without[:place]]


def _with(row: Row, choice: Choice) -> Row:
    return replace(row, options={**row.options, **choice})


def _chosen(row: Row, tried: Sequence[tuple[Choice, StageOne]], failures: Mapping[Path, str]) -> Row:
    figures: list[tuple[float, Choice]] = []
    for choice, job in tried:
        if not failures[job.path]:
            figures.append((RunFolder(job.path).selection().validation.harmonic_mean, choice))
    if not figures:
        return row
    best, choice = max(figures, key=lambda pair: pair[0])
    options = ", ".join(f"{name} {value}" for name, value in choice.items())
    others = ", ".join(f"{100 * figure:.1f}" for figure, one in figures if one is not choice)
    note = f"chosen on validation, HM {100 * best:.1f}: {options}"
    note += f"; the other choices had {others}" if others else ""
    return replace(_with(row, choice), notes=(*row.notes, note))
