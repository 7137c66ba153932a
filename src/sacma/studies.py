"""Studies: the rows of a table of the paper, each an experiment file, run over seeds in parallel processes.

A study is a folder of ``experiments/`` with one YAML file a row: ``options`` (of a run), ``expected`` (the
published S, U, HM, ZSL in percent, by benchmark) and ``notes``. Each row has a folder of its own, so finished
rows are kept, a killed study continues, and a row that fails does not stop the others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from sacma.benchmarks import Benchmark, Split
from sacma.config import PUBLISHED_RUN, method_class, resolve
from sacma.errors import SacmaError
from sacma.metrics import clip_errors
from sacma.protocol import count_training_clips, open_benchmark, run_seeds
from sacma.runs import read_json

LIKE = ("published", "ours")
PRINTED = ("S", "U", "HM", "ZSL")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: of its file.
        label: as the table shows it.
        order: place in the table.
        options: of its run.
        expected: benchmark -> the paper's S, U, HM and ZSL, in percent; empty for rows that are not in it.
        notes: what a reader has to know.
    """

    name: str
    label: str
    order: int
    options: Mapping[str, Any]
    expected: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RowResult:
    """What came of a row.

    Attributes:
        row: which.
        summary: mean and deviation over seeds, as in summary.json; None where the row failed.
        clip_error: standard error over test clips of S, U, HM and ZSL, mean over seeds, as fractions.
        failure: why it failed; empty where it did not.
    """

    row: Row
    summary: Mapping[str, Any] | None
    clip_error: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


def experiments_folder() -> Path:
    """Where the experiment files are: inside the installed package, or beside the sources."""
    inside = Path(__file__).parent / "experiments"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "experiments"


def read_study(name: str) -> list[Row]:
    """The rows of a study, in the table's order.

    Raises:
        SacmaError: there is no such study, or a file of it is damaged.
    """
    root = experiments_folder()
    known = sorted({path.parent.name for path in root.glob("*/*.yaml")})
    if name not in known:
        raise SacmaError(f"no study {name!r}; there are: {', '.join(known)}")
    return sorted((_read_row(path) for path in (root / name).glob("*.yaml")), key=lambda row: row.order)


def _read_row(path: Path) -> Row:
    try:
        row = Row(name=path.stem, **yaml.safe_load(path.read_text(encoding="utf-8")))
    # What is wrong in a damaged file may come to light as almost any exception.
    except Exception as error:
        raise SacmaError(f"{path} is not an experiment file: {_one_line(error)}") from error
    right = {
        "label": isinstance(row.label, str),
        "order": isinstance(row.order, int),
        "options": isinstance(row.options, dict) and "method" in row.options,
        "expected": isinstance(row.expected, dict) and all(map(_is_printed, row.expected.values())),
        "notes": isinstance(row.notes, list | tuple) and all(isinstance(note, str) for note in row.notes),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise SacmaError(f"{path}: {', '.join(wrong)} is not as in the other experiment files; correct it")
    return row


def _is_printed(figures: Any) -> bool:
    numbers = isinstance(figures, dict) and all(isinstance(value, int | float) for value in figures.values())
    return numbers and figures.keys() == set(PRINTED)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def chosen_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of these names, each once; all where there are none.

    Raises:
        SacmaError: a name is not that of a row.
    """
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            raise SacmaError(f"no row {name!r} in this study; there are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(rows)


def row_options(row: Row, given: Mapping[str, Any], *, like: str) -> dict[str, Any]:
    """Options of a row's run: those of its file, those given, and the variant that ``like`` asks for.

    A row whose file names a variant keeps it.

    A method without the variant ``published`` still gets the published vectors, bias search and schedule, so
    that the rows of a table differ by their method alone.

    Raises:
        SacmaError: ``like`` is neither published nor ours.
    """
    if like not in LIKE:
        raise SacmaError(f"--like is {like!r}; it must be one of {', '.join(LIKE)}")
    options = {**row.options, **given}
    if like == "ours" or "variant" in row.options:
        return options
    if "published" in method_class(str(options["method"])).VARIANTS:
        return {**options, "variant": "published"}
    return {**PUBLISHED_RUN, **options}


def run_study(
    rows: Sequence[Row],
    given: Mapping[str, Any],
    *,
    like: str,
    seeds: int,
    jobs: int,
    out: Path,
    console: Console,
) -> list[RowResult]:
    """Run rows over seeds; results come in the order of ``rows``.

    Args:
        rows: to run.
        given: options for all rows, such as benchmark, features and root.
        like: ``published`` or ``ours``.
        seeds: of each row.
        jobs: processes at a time; the processor's cores are shared among them.
        out: folder of the study; a row's runs are in ``out/ROW``.
        console: told of each row that ends.

    Raises:
        SacmaError: seeds or jobs below 1, or the benchmark cannot be opened.
    """
    if seeds < 1 or jobs < 1:
        raise SacmaError(f"--seeds {seeds} and --jobs {jobs} must both be at least 1")
    open_benchmark(resolve(given).data, console)  # converts or renders once, before the processes start
    threads = max(1, torch.get_num_threads() // jobs)
    waiting, results = list(rows), dict[str, RowResult]()
    running: dict[Connection, tuple[Row, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                row = waiting.pop(0)
                receiver, process = _start(row, given, like, seeds, out / row.name, threads)
                running[receiver] = row, process
            ready = wait(list(running))
            for receiver in [one for one in running if one in ready]:
                row, process = running.pop(receiver)
                results[row.name] = result = _collected(row, process, receiver)
                console.print(f"{row.label}: {result.failure or 'done'}", soft_wrap=True)
    finally:  # after an interruption: a run can be killed at any moment
        for _, process in running.values():
            process.terminate()
            process.join()
    return [results[row.name] for row in rows]


def _start(
    row: Row, given: Mapping[str, Any], like: str, seeds: int, folder: Path, threads: int
) -> tuple[Connection, SpawnProcess]:
    """A process for a row, of its own, so that one that dies takes no other row with it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_row, args=(sender, row, given, like, seeds, folder, threads))
    process.start()
    sender.close()  # the process has its own end; with it closes the last
    return receiver, process


def _collected(row: Row, process: SpawnProcess, receiver: Connection) -> RowResult:
    try:
        result: RowResult = receiver.recv()
    except EOFError:
        process.join()
        return RowResult(
            row, None, failure=f"its process ended with status {process.exitcode}; run the study again"
        )
    process.join()
    return result


def _send_row(
    sender: Connection,
    row: Row,
    given: Mapping[str, Any],
    like: str,
    seeds: int,
    folder: Path,
    threads: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study that is interrupted stops its processes
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    torch.set_num_threads(threads)
    sender.send(_run_row(row, given, like, seeds, folder))


def _end_with_the_study() -> None:
    """A study that is killed cannot stop its processes; they would go on and keep their folders locked."""
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os._exit(1)


def _run_row(row: Row, given: Mapping[str, Any], like: str, seeds: int, folder: Path) -> RowResult:
    """Runs in a process of its own; a failure is an answer, not an exception."""
    quiet = Console(quiet=True)
    try:
        options = row_options(row, given, like=like)
        benchmark = open_benchmark(resolve(options).data, quiet)
        config = resolve(options, training_clips=count_training_clips(benchmark))
        summary = run_seeds(config, benchmark, folder, quiet, seeds=seeds)
        return RowResult(row, summary, _clip_error(benchmark, folder, summary["seeds"]))
    except SacmaError as error:
        return RowResult(row, None, failure=_one_line(error))
    except Exception as error:  # a defect in one row must not lose the others
        return RowResult(row, None, failure=f"{type(error).__name__}: {_one_line(error)}")


def _clip_error(benchmark: Benchmark, folder: Path, seeds: Sequence[int]) -> dict[str, float]:
    test = benchmark.split("test")
    counts = torch.bincount(test.labels, minlength=len(test.classes))
    errors = []
    for seed in seeds:
        figures = read_json(folder / f"seed-{seed}" / "result.json")["test"]
        per_class, per_class_zsl = (
            torch.tensor([figures[key].get(name, torch.nan) for name in test.classes.names])
            for key in ("per_class", "per_class_zsl")
        )
        errors.append(clip_errors(per_class, per_class_zsl, counts, test.classes.seen))
    return {key: sum(one[key] for one in errors) / len(errors) for key in errors[0]}


def chance(test: Split) -> dict[str, float]:
    """S, U, HM and ZSL of guessing uniformly among the candidates, as fractions."""
    share = 1 / len(test.classes)
    unseen = int((~test.classes.seen).sum())
    return {"seen": share, "unseen": share, "harmonic_mean": share, "zsl": 1 / unseen}
