"""Output on the screen: progress of long work, and results."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from sacma.metrics.percent import mean_and_deviation, percent

if TYPE_CHECKING:  # for annotations alone: most of these load torch, or come with an extra
    from torch import Tensor

    from sacma.data.fetching import ByteProgress
    from sacma.datasets.own_clips import OwnBenchmark
    from sacma.datasets.youtube8m.folder import Converted
    from sacma.media.extract_many import Extraction, Trouble
    from sacma.metrics.gzsl import GZSLResult
    from sacma.metrics.multilabel import MultiLabelResult
    from sacma.metrics.retrieval import Retrieval
    from sacma.predict import Prediction, Segment, Window
    from sacma.progress import EpochRow, OnProgress
    from sacma.runs.records import RunResult, RunSummary

_BETWEEN_LINES = 10.0
"""Seconds between lines on progress where there is no terminal."""


class TrainingScreen:
    """Progress of a run: bars on a terminal, a line an epoch elsewhere. A context manager."""

    # Reading a loss waits for the device, so the bar does not read each.
    EVERY = 10

    def __init__(self, console: Console, *, batches_per_epoch: int) -> None:
        self.console = console
        self.batches_per_epoch = max(batches_per_epoch, 1)
        self.note = ""
        self.tasks: dict[int, TaskID] = {}
        self.epochs: dict[int, int] = {}
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def stage_begins(self, number: int, epochs: int) -> None:
        total = epochs * self.batches_per_epoch
        self.epochs[number] = epochs
        self.tasks[number] = self.bars.add_task(f"stage {number}", total=total, note="")

    def batch_done(self, stage: int, epoch: int, batch: int, terms: Mapping[str, Tensor]) -> None:
        if self.bars.disable or batch % self.EVERY:
            return
        loss = sum(float(value) for value in terms.values())
        done = (epoch - 1) * self.batches_per_epoch + batch
        self.bars.update(self.tasks[stage], completed=done, note=f"loss {loss:.3f}{self.note}")

    def epoch_done(self, row: EpochRow) -> None:
        self.note = f", lr {row.learning_rate:.1e}"
        if row.validation:
            self.note += f", validation HM {100 * row.validation['harmonic_mean']:.1f}"
        done = row.epoch * self.batches_per_epoch
        note = f"loss {row.loss:.3f}{self.note}"
        self.bars.update(self.tasks[row.stage], completed=done, note=note)
        if self.bars.disable:
            left = row.seconds * (self.epochs.get(row.stage, row.epoch) - row.epoch)
            time = f"{row.seconds:.1f} s" + (f", stage ends in {left:.0f} s" if left >= 1 else "")
            self.console.print(f"stage {row.stage} epoch {row.epoch:3d}: {note} ({time})")

    def continued(self, stage: int, epoch: int) -> None:
        self.bars.update(self.tasks[stage], completed=epoch * self.batches_per_epoch)
        if epoch:
            self.console.print(f"stage {stage} continues after epoch {epoch}")


class Screen:
    """A ``Reporter`` that shows everything on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, highlight=False)

    def counting(self, title: str) -> AbstractContextManager[OnProgress]:
        return counting(self.console, title)

    def training(self, *, batches_per_epoch: int) -> TrainingScreen:
        return TrainingScreen(self.console, batches_per_epoch=batches_per_epoch)


@contextmanager
def counting(console: Console, what: str) -> Iterator[OnProgress]:
    """A bar for countable work: call what it yields with the pieces done and their total."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def extracting(
    console: Console, clips: int
) -> Iterator[tuple[Callable[[int, int], None], Callable[[Trouble], None], Callable[[float], None]]]:
    """A bar with the pace and the time left, or a line now and then where there is no terminal.

    The pace is clips a second, and hours of video in an hour.

    Yields what is to be called with the clips done and all, with what is wrong with one, and with the seconds
    of one that is done, before it counts as done.
    """
    columns = (
        TextColumn("extracting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    began, said, first, hours = time.monotonic(), time.monotonic(), None, 0.0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=clips, pace="")

        def length(seconds: float) -> None:
            nonlocal hours
            hours += seconds / 3600

        def progress(done: int, total: int) -> None:
            nonlocal said, first
            now = time.monotonic()
            first = done - 1 if first is None else first  # those before were done by an earlier call
            spent = max(now - began, 1e-6)
            pace = (done - first) / spent
            told = f"{pace:.2f} clips/s, {hours / spent * 3600:.3g} h of video in 1 h"
            bars.update(task, completed=done, total=total, pace=told)
            if bars.disable and (now - said > _BETWEEN_LINES or done == total):
                said = now
                left = (total - done) / pace
                console.print(f"{done} of {total} clips, {told}, {left:.0f} s left", highlight=False)

        def trouble(found: Trouble) -> None:
            what = "left out" if found.left_out else "damaged"
            which = "" if found.clip.shown in found.reason else f"{found.clip.shown}: "
            console.print(f"{what}: {which}{found.reason}", soft_wrap=True, highlight=False)

        yield progress, trouble, length


def show_extraction(console: Console, made: Extraction) -> None:
    """Number of clips with features, and the folder of the features."""
    left_out = sum(trouble.left_out for trouble in made.troubles)
    damaged = len({trouble.clip for trouble in made.troubles if not trouble.left_out})
    console.print(f"features of {made.clips} clips: {made.folder}", soft_wrap=True, highlight=False)
    if made.troubles:
        console.print(
            f"{left_out} left out, {damaged} damaged and used as far as they go: {made.failures}",
            soft_wrap=True,
            highlight=False,
        )


def show_own_benchmark(console: Console, made: OwnBenchmark) -> None:
    """Split of clips and classes, and the command that trains on them."""
    table = Table()
    for title in ("partition", "clips", "classes"):
        table.add_column(title, justify="right" if title == "clips" else "left")
    for partition, clips in made.clips.items():
        table.add_row(partition, str(clips), ", ".join(made.classes[partition]))
    console.print(table)
    if made.without_clips:
        console.print(f"left out, without clips: {', '.join(made.without_clips)}", soft_wrap=True)
    root = shlex.quote(str(made.root))
    command = f"sacma train --benchmark {made.name} --features {made.features} --root {root}"
    console.print(command, soft_wrap=True, highlight=False)


def show_youtube8m(console: Console, made: Converted) -> None:
    """Number of clips, missing classes, and the command that trains on them."""
    table = Table()
    table.add_column("partition")
    table.add_column("clips", justify="right")
    for partition, clips in made.clips.items():
        table.add_row(partition, str(clips))
    console.print(table)
    for trouble in made.skipped:
        console.print(f"left out: {trouble}", soft_wrap=True, highlight=False, markup=False)
    if made.without_videos:
        console.print(f"topics without videos: {', '.join(made.without_videos)}", soft_wrap=True)
    if made.not_found:
        console.print(f"listed videos that are not in the shards: {made.not_found}")
    root = shlex.quote(str(made.root))
    command = f"sacma train --benchmark {made.name} --features {made.features} --root {root}"
    console.print(command, soft_wrap=True, highlight=False)


@contextmanager
def downloading(console: Console) -> Iterator[Callable[[ByteProgress], None]]:
    """A bar for bytes that arrive."""
    columns = (
        TextColumn("{task.description}", markup=False),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(progress: ByteProgress) -> None:
            source = progress.source
            if source not in tasks:
                tasks[source] = bars.add_task(Path(source).name, total=progress.total)
            bars.update(tasks[source], completed=progress.done, total=progress.total)

        yield show


def result_table(rows: Mapping[str, GZSLResult]) -> Table:
    """S, U, HM, ZSL, AUSUC in percent and the bias, a row a result."""
    table = Table()
    for name in ("", "S", "U", "HM", "ZSL", "AUSUC", "bias"):
        table.add_column(name, justify="right" if name else "left")
    for name, result in rows.items():
        shares = (result.seen, result.unseen, result.harmonic_mean, result.zsl, result.ausuc)
        table.add_row(name, *map(percent, shares), f"{result.bias:.3g}")
    return table


def seeds_table(summary: RunSummary) -> Table:
    """Mean and standard deviation over seeds, in percent."""
    table = Table()
    for name in ("", "S", "U", "HM", "ZSL"):
        table.add_column(name, justify="right" if name else "left")
    for part, spread in (("validation", summary.validation), ("test", summary.test)):
        mean, std = spread.mean, spread.std
        cells = [
            mean_and_deviation(mean[key], std[key]) for key in ("seen", "unseen", "harmonic_mean", "zsl")
        ]
        table.add_row(part, *cells)
    return table


def show_summary(console: Console, summary: RunSummary, path: Path) -> None:
    """Mean and spread over seeds."""
    console.print(f"{summary.headline}, {len(summary.seeds)} seeds", highlight=False, soft_wrap=True)
    console.print(seeds_table(summary))
    console.print(f"summary: {path}", soft_wrap=True)


def show_result(console: Console, result: RunResult, path: Path) -> None:
    """The result of a finished run, in percent."""
    console.print(f"{result.headline}, seed {result.seed}", highlight=False, soft_wrap=True)
    console.print(result_table({"validation": result.validation, "test": result.test}))
    for warning in dict.fromkeys((*result.validation.warnings, *result.test.warnings)):
        console.print(f"note: {warning}", soft_wrap=True)
    console.print(f"run folder: {path}", soft_wrap=True)


def show_evaluation(console: Console, stored: RunResult, result: GZSLResult, output: str | None) -> None:
    """The result computed again, beside the one that the run kept."""
    console.print(f"{stored.headline}, seed {stored.seed}", highlight=False, soft_wrap=True)
    again = f"test, {output}" if output else "test, computed again"
    console.print(result_table({again: result, "test, as stored": stored.test}))


def retrieval_table(found: Mapping[str, Retrieval]) -> Table:
    """Mean average precision and recall at some ranks, in percent, a row for each direction."""
    ranks = next(iter(found.values())).recall
    table = Table()
    table.add_column("retrieval")
    for name in ("queries", "mAP", *(f"R@{k}" for k in ranks)):
        table.add_column(name, justify="right")
    for name, one in found.items():
        figures = (one.mean_average_precision, *one.recall.values())
        table.add_row(name, str(one.queries), *map(percent, figures))
    return table


def multilabel_table(result: MultiLabelResult) -> Table:
    """Figures of clips with several right classes, in percent."""
    from sacma.metrics.multilabel import TOP

    table = Table(title=f"{result.clips} clips with {result.classes_per_clip:.2f} right classes each")
    figures = {
        "S": result.seen,
        "U": result.unseen,
        "HM": result.harmonic_mean,
        "ZSL": result.zsl,
        "hit": result.hit,
        f"hit@{TOP}": result.hit_top,
        "mAP seen": result.map_seen,
        "mAP unseen": result.map_unseen,
    }
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*map(percent, figures.values()))
    return table


CARRIED = {
    "both": "sound and pictures alike",
    "audio": "sound",
    "video": "pictures",
    "neither": "only together",
}


def show_prediction(console: Console, prediction: Prediction) -> None:
    """The ranked names of a clip, and for one that was cut into windows its course in time."""
    console.print(prediction.clip, soft_wrap=True, highlight=False, style="bold")
    columns = ["", "name", "probability"]
    table = Table(*columns, *([] if prediction.model else [""]))
    for rank, answer in enumerate(prediction.answers, start=1):
        bar = ("█" if console.encoding.startswith("utf") else "#") * round(20 * answer.probability)
        row = (str(rank), answer.name, f"{100 * answer.probability:5.1f} % {bar}")
        seen = "trained on" if answer.seen else "never trained on"
        table.add_row(*row, *([] if prediction.model else [seen]))
    console.print(table)
    if prediction.rejected:
        console.print("none of these fits", soft_wrap=True, highlight=False, style="bold")
    elif prediction.because:
        console.print(f"because: {', '.join(prediction.because)}", soft_wrap=True, highlight=False)
    if prediction.timeline:
        console.print(_timeline(prediction.timeline))
    else:
        for line in _alone(prediction.windows[0]):
            console.print(line, soft_wrap=True, highlight=False)
    for note in prediction.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)


def _alone(window: Window) -> list[str]:
    if window.carried_by is None:
        return []
    names = {"audio": "sound", "video": "pictures"}
    alone = [f"{names[m]} alone: {a.name} ({100 * a.probability:.0f} %)" for m, a in window.alone.items()]
    return [f"carried by: {CARRIED[window.carried_by]}; {'; '.join(alone)}"]


def _timeline(course: Sequence[Segment]) -> Table:
    table = Table("from", "to", "name", "probability", "carried by", title="timeline", title_justify="left")
    for one in course:
        carried = CARRIED[one.carried_by] if one.carried_by else ""
        table.add_row(clock(one.start), clock(one.end), one.name, f"{100 * one.probability:5.1f} %", carried)
    return table


def clock(seconds: float) -> str:
    """1:02.5 for 62.5 seconds, 1:00:02 for 3602."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:04.1f}".removesuffix(".0")
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
