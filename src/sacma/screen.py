"""What a person sees while a run goes on, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from sacma.metrics import GZSLResult
from sacma.training import Stage


class Screen:
    """Progress bars on a terminal, a line an epoch elsewhere. A context manager."""

    # Reading a loss waits for the device, so the bar does not read each.
    EVERY = 10

    def __init__(self, console: Console, *, batches_per_epoch: int) -> None:
        self.console = console
        self.batches_per_epoch = max(batches_per_epoch, 1)
        self.note = ""
        self.tasks: dict[int, TaskID] = {}
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Screen:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def stage_begins(self, number: int, epochs: int) -> None:
        total = epochs * self.batches_per_epoch
        self.tasks[number] = self.bars.add_task(f"stage {number}", total=total, note="")

    def batch_done(self, stage: Stage, epoch: int, batch: int, terms: Mapping[str, Tensor]) -> None:
        if self.bars.disable or batch % self.EVERY:
            return
        loss = sum(float(value) for value in terms.values())
        done = (epoch - 1) * self.batches_per_epoch + batch
        self.bars.update(self.tasks[stage.number], completed=done, note=f"loss {loss:.3f}{self.note}")

    def epoch_done(self, row: dict[str, Any]) -> None:
        validation = row["validation"]
        self.note = f", lr {row['learning_rate']:.1e}"
        if validation:
            self.note += f", validation HM {100 * validation['harmonic_mean']:.1f}"
        done = row["epoch"] * self.batches_per_epoch
        note = f"loss {row['loss']:.3f}{self.note}"
        self.bars.update(self.tasks[row["stage"]], completed=done, note=note)
        if self.bars.disable:
            self.console.print(
                f"stage {row['stage']} epoch {row['epoch']:3d}: {note} ({row['seconds']:.1f} s)"
            )

    def continued(self, stage: int, epoch: int) -> None:
        self.bars.update(self.tasks[stage], completed=epoch * self.batches_per_epoch)
        if epoch:
            self.console.print(f"stage {stage} continues after epoch {epoch}")


def result_table(title: str, rows: Mapping[str, GZSLResult | Mapping[str, Any]]) -> Table:
    """S, U, HM, ZSL in percent and the bias, a row a result."""
    table = Table(title=title, title_justify="left")
    for name in ("", "S", "U", "HM", "ZSL", "AUSUC", "bias"):
        table.add_column(name, justify="left" if not name else "right")
    for name, result in rows.items():
        figures = vars(result) if isinstance(result, GZSLResult) else result
        percent = [f"{100 * figures[key]:.1f}" for key in ("seen", "unseen", "harmonic_mean", "zsl", "ausuc")]
        table.add_row(name, *percent, f"{figures['bias']:.3g}")
    return table


def seeds_table(title: str, summary: Mapping[str, Any]) -> Table:
    """Mean and standard deviation over seeds, in percent."""
    table = Table(title=title, title_justify="left")
    for name in ("", "S", "U", "HM", "ZSL"):
        table.add_column(name, justify="left" if not name else "right")
    keys = ("seen", "unseen", "harmonic_mean", "zsl")
    for part in ("validation", "test"):
        mean, std = summary[part]["mean"], summary[part]["std"]
        spread = [f" ± {100 * std[k]:.1f}" if std[k] is not None else "" for k in keys]
        table.add_row(part, *(f"{100 * mean[k]:.1f}{s}" for k, s in zip(keys, spread, strict=True)))
    return table


def headline(result: Mapping[str, Any]) -> str:
    """What was run on what: without this a figure means nothing."""
    return (
        f"{result['method']} ({result['variant']}) on {result['benchmark']}, {result['features']} features "
        f"({result['feature_scaling']}), {result['split']} split, {result['text_alignment']} class vectors "
        f"({result['text']}), {result['bias_search']} bias search"
    )


def show_result(console: Console, result: Mapping[str, Any], path: Path) -> None:
    """The figures of a finished run, in percent."""
    rows = {part: result[part] for part in ("validation", "test")}
    console.print(result_table(f"{headline(result)}, seed {result['seed']}", rows))
    for warning in dict.fromkeys((*result["validation"]["warnings"], *result["test"]["warnings"])):
        console.print(f"note: {warning}")
    console.print(f"run folder: {path}")


def show_evaluation(
    console: Console, stored: Mapping[str, Any], result: GZSLResult, output: str | None
) -> None:
    """Figures computed again, beside those that the run kept."""
    rows: dict[str, Any] = {f"test, {output}" if output else "test, computed again": result}
    console.print(result_table(headline(stored), rows | {"test, as stored": stored["test"]}))
