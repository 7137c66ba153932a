"""Tables of studies: for the terminal, Markdown and CSV, from the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from sacma.studies import RowResult, SettingResult, chance

FIGURES = {"S": "seen", "U": "unseen", "HM": "harmonic_mean", "ZSL": "zsl"}


@dataclass(frozen=True)
class Comparison:
    """A table with what has to stand above and below it.

    Attributes:
        title: data, split, features, class vectors, bias search, seeds.
        columns: heads of the columns.
        rows: cells, one row a method.
        notes: footnotes.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]

    def __rich__(self) -> Table:
        table = Table(
            title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left"
        )
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """A Markdown table under its title."""
        lines = [self.title, "", _line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line(row) for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """The cells, comma-separated, without title and notes."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def compare(setting: SettingResult, *, published: bool) -> Comparison:
    """Test figures of the rows of a study: mean and deviation over seeds, standard error over test clips.

    Args:
        setting: what came of the rows.
        published: show the published figures and the differences to them; only where variants, vectors and
            features are those of the published ones.
    """
    results, guessed = setting.rows, chance(setting.benchmark.split("test"))
    columns = ["method", *FIGURES, "se HM", "se ZSL", "bias", "epochs"]
    columns += ["HM printed", "ZSL printed", "ΔHM", "ΔZSL"] if published else []
    name = setting.benchmark.name
    rows = [[*_cells(result), *(_published(result, name) if published else [])] for result in results]
    blank = [""] * (len(columns) - 1 - len(FIGURES))
    rows.append(["chance", *(f"{100 * guessed[key]:.1f}" for key in FIGURES.values()), *blank])
    title = _title([result.summary for result in results if result.summary])
    return Comparison(title, columns, rows, _notes(results))


def _cells(result: RowResult) -> list[str]:
    summary = result.summary
    if summary is None:
        return [result.row.label, "failed", *[""] * (len(FIGURES) + 3)]
    mean, std = summary["test"]["mean"], summary["test"]["std"]
    figures = [_spread(mean[key], std[key]) for key in FIGURES.values()]
    errors = [f"{100 * result.clip_error[key]:.1f}" for key in ("harmonic_mean", "zsl")]
    epochs = "/".join(str(number) for number in summary["epochs"])
    return [result.row.label, *figures, *errors, f"{mean['bias']:.3g}", epochs]


def _spread(mean: float, std: float | None) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if std is not None else "")


def _published(result: RowResult, benchmark: str) -> list[str]:
    expected, summary = result.row.expected.get(benchmark), result.summary
    if not expected or not summary:
        return [""] * 4
    printed = [expected["HM"], expected["ZSL"]]
    ours = [100 * summary["test"]["mean"][key] for key in ("harmonic_mean", "zsl")]
    differences = [own - theirs for own, theirs in zip(ours, printed, strict=True)]
    return [*(f"{value:.2f}" for value in printed), *(f"{value:+.2f}" for value in differences)]


def _title(summaries: Sequence[Mapping[str, Any]]) -> str:
    """What the runs were made with; where rows differ, all that there is."""
    if not summaries:
        return "no row has finished"

    def of(key: str) -> str:
        return " or ".join(dict.fromkeys(str(summary[key]) for summary in summaries))

    seeds = " or ".join(dict.fromkeys(str(len(summary["seeds"])) for summary in summaries))
    return (
        f"{of('benchmark')}, {of('split')} split, {of('features')} features ({of('feature_scaling')}), "
        f"{of('text_alignment')} class vectors ({of('text')}), {of('bias_search')} bias search, "
        f"preset {of('preset')}, {seeds} seeds"
    )


def _notes(results: Sequence[RowResult]) -> list[str]:
    notes = [
        "mean ± standard deviation over seeds, percent; se: standard error over test clips (bootstrap within "
        "classes, mean over seeds); bias: mean; epochs: chosen by validation, one a seed"
    ]
    notes += [f"{one.row.label}: failed, {one.failure}" for one in results if one.failure]
    notes += [f"{one.row.label}: {note}" for one in results for note in one.row.notes]
    return notes
