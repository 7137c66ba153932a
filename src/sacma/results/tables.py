"""Tables of studies for the terminal, Markdown, LaTeX and CSV.

Published figures stand beside ours with marks where the paper contradicts itself; differences to them are
shown only where variants, class vectors, features and split are those of the paper.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sacma.data.paper import info_rows, published_benchmarks
from sacma.frozen.leakage import KNOWN, POSSIBLE, Overlap, overlap
from sacma.metrics.gzsl import ACCURACIES
from sacma.metrics.percent import mean_and_deviation, percent, rounded_percent
from sacma.runs.config import assumed_options, method_class
from sacma.runs.records import RunSummary
from sacma.studies.study import PRINTED, Row, RowResult, SettingResult, Study, chance
from sacma.training.evaluation import one_step_note

DIFFERENCES = ("HM", "ZSL")
MARKS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ"


@dataclass(frozen=True)
class RowGroup:
    """Rows under a title of their own.

    Attributes:
        title: data and settings of the rows.
        rows: cells; the first is the name of the row.
        name: a short title, for tables of several groups.
    """

    title: str
    rows: Sequence[Sequence[str]]
    name: str = ""


@dataclass(frozen=True)
class Comparison:
    """A table with its title and footnotes.

    Attributes:
        title: the title.
        columns: heads of the columns.
        groups: rows; one group for each setting.
        notes: footnotes.
        records: the rows as numbers, for CSV.
    """

    title: str
    columns: Sequence[str]
    groups: Sequence[RowGroup]
    notes: Sequence[str]
    records: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def __rich__(self) -> Table:
        table = Table(
            title=self._heading(),
            title_justify="left",
            caption="\n".join(self.notes) or None,
            caption_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        for index, column in enumerate(self.columns):
            figure = (
                column in ACCURACIES
            )  # kept in one line; where there is no room for all, others are folded
            justify: Literal["left", "right"] = "right" if index else "left"
            table.add_column(column, justify=justify, no_wrap=figure, overflow="fold")
        for group in self.groups:
            table.add_section()
            if len(self.groups) > 1:
                table.add_row(group.name)
            for row in group.rows:
                table.add_row(*row)
        return table

    def _heading(self) -> str:
        return "\n".join([self.title, *(group.title for group in self.groups)])

    def markdown(self) -> str:
        """The table in Markdown, one for each group."""
        lines = [f"# {self.title}", ""]
        for group in self.groups:
            lines += [group.title, ""] if group.title else []
            lines += [_line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
            lines += [*map(_line, group.rows), ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)]) + "\n"

    def latex(self, *, label: str) -> str:
        """The table in LaTeX, for documents with the packages booktabs and graphicx."""
        width = len(self.columns)
        lines = [
            "% needs \\usepackage{booktabs,graphicx}",
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{_tex(re.sub('^Table [0-9]+: ', '', self.title))}}}",  # LaTeX counts itself
            f"  \\label{{tab:{re.sub('[^a-z0-9]+', '-', label.lower())}}}",
            "  \\resizebox{\\textwidth}{!}{%",
            f"  \\begin{{tabular}}{{l{'r' * (width - 1)}}}",
            "    \\toprule",
            f"    {_tex_line(self.columns)}",
        ]
        for group in self.groups:
            lines.append("    \\midrule")
            if group.title:
                lines += [f"    \\multicolumn{{{width}}}{{l}}{{\\emph{{{_tex(group.title)}}}}} \\\\"]
            lines += [f"    {_tex_line(row)}" for row in group.rows]
        lines += ["    \\bottomrule", "  \\end{tabular}}"]
        if self.notes:
            lines.append("\n  \\smallskip\n  \\begin{minipage}{\\textwidth}\\footnotesize")
            lines += [f"    {_tex(note)}\\par" for note in self.notes]
            lines.append("  \\end{minipage}")
        return "\n".join([*lines, "\\end{table}"]) + "\n"

    def csv(self) -> str:
        """The records as CSV; the cells if there are none."""
        text = io.StringIO()
        if self.records:
            columns = list(dict.fromkeys(chain.from_iterable(self.records)))
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.records)
        else:
            rows = chain.from_iterable(group.rows for group in self.groups)
            csv.writer(text, lineterminator="\n").writerows([self.columns, *rows])
        return text.getvalue()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{mark: f"\\textsuperscript{{{chr(ord('a') + place)}}}" for place, mark in enumerate(MARKS)},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "|": "\\textbar{}",
    "<": "$<$",
    ">": "$>$",
    "±": "$\\pm$",
    "−": "$-$",
    "Δ": "$\\Delta$",
    KNOWN: "\\textdagger{}",
    POSSIBLE: "\\textdaggerdbl{}",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _tex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(_tex, cells)) + " \\\\"


# --- Studies --------------------------------------------------------------------------------------


def compare(study: Study, settings: Sequence[SettingResult], *, like: str) -> Comparison:
    """Test figures of the rows of a study: mean and deviation over seeds, standard error over test clips.

    Args:
        study: its title, its gains and what there is to note.
        settings: what came of the rows.
        like: ``published`` or ``ours``.
    """
    table = _Table(settings, like)
    groups = [
        RowGroup(_title(one), table.rows(study, one), f"{one.benchmark.name}, {one.features}")
        for one in settings
    ]
    records = [record for setting in settings for record in table.records(study, setting)]
    return Comparison(study.title, table.columns, groups, table.notes(study), records)


def is_simulated(setting: SettingResult) -> bool:
    return bool(setting.benchmark.features.provenance.get("simulated"))


def overlap_of(setting: SettingResult) -> Overlap | None:
    """Overlap of the training data of the features' encoders with the test of a setting."""
    benchmark, classes = setting.benchmark, setting.benchmark.split("test").classes
    return overlap(
        benchmark.features.provenance,
        benchmark=benchmark.name,
        features=setting.features,
        split=benchmark.split_name,
        unseen=classes.only(~classes.seen).names,
    )


class _Table:
    """Columns and cells of a table of results."""

    def __init__(self, settings: Sequence[SettingResult], like: str) -> None:
        self.settings, self.like = settings, like
        self.overlaps = [overlap_of(setting) for setting in settings]
        self.footnotes: dict[str, str] = {}  # text -> mark
        self.with_vectors = any(
            len({_vectors(summary) for summary in _summaries(setting)}) > 1 for setting in settings
        )
        self.with_printed = any(
            self._printed(setting, one.row) for setting in settings for one in setting.rows
        )
        self.with_differences = any(map(self._comparable, settings))
        self.columns = ["method", *ACCURACIES, "se HM", "se ZSL", "bias", "epochs"]
        self.columns += ["vectors"] if self.with_vectors else []
        self.columns += [f"printed {name}" for name in PRINTED] if self.with_printed else []
        self.columns += [f"Δ{name}" for name in DIFFERENCES] if self.with_differences else []

    def _comparable(self, setting: SettingResult) -> bool:
        """True if the settings are those of the paper, so that a difference has a meaning."""
        paper = setting.features == "selavi" and not is_simulated(setting)
        main = setting.benchmark.split_name == "main"
        return (
            self.like == "published" and paper and main and setting.benchmark.name in published_benchmarks()
        )

    def _printed(self, setting: SettingResult, row: Row) -> Mapping[str, float]:
        """The published figures of a row; none for another split, and none beside simulated data."""
        if setting.benchmark.split_name != "main" or is_simulated(setting):
            return {}
        return row.expected.get(setting.benchmark.name, {})

    def rows(self, study: Study, setting: SettingResult) -> list[list[str]]:
        rows = [self._row(setting, result) for result in setting.rows]
        guessed = chance(setting.benchmark.split("test"))
        guess = {name: percent(guessed[key]) for name, key in ACCURACIES.items()}
        rows.append(list((dict.fromkeys(self.columns, "") | {"method": "chance"} | guess).values()))
        return rows + [self._gain_row(setting, *pair) for pair in _gains(study, setting)]

    def _row(self, setting: SettingResult, result: RowResult) -> list[str]:
        cells = dict.fromkeys(self.columns, "") | {"method": result.row.label + self._overlap_mark(setting)}
        printed = self._printed(setting, result.row)
        if self.with_printed and printed:
            errata = result.row.errata.get(setting.benchmark.name, {})
            cells |= {f"printed {n}": f"{printed[n]:.2f}{self._mark(errata.get(n))}" for n in PRINTED}
        summary = result.summary
        if summary is None:
            return list((cells | {"S": "failed"}).values())
        mean, std = summary.test.mean, summary.test.std
        cells |= {name: mean_and_deviation(mean[key], std[key]) for name, key in ACCURACIES.items()}
        cells |= {f"se {n}": percent(result.clip_error[ACCURACIES[n]]) for n in DIFFERENCES}
        cells |= {"bias": f"{mean['bias']:.3g}", "epochs": "/".join(map(str, summary.epochs))}
        if self.with_vectors:
            cells["vectors"] = _vectors(summary)
        if self._comparable(setting) and printed:
            cells |= {f"Δ{n}": f"{100 * mean[ACCURACIES[n]] - printed[n]:+.2f}" for n in DIFFERENCES}
        return list(cells.values())

    def _gain_row(self, setting: SettingResult, of: RowResult, over: RowResult) -> list[str]:
        cells = dict.fromkeys(self.columns, "") | {"method": _gain_name(of, over)}
        for name, (mean, std) in _gain(of, over).items():
            cells[name] = mean_and_deviation(mean, std, sign="+")
        ours, theirs = (self._printed(setting, one.row) for one in (of, over))
        if self.with_printed and ours and theirs:
            cells |= {f"printed {name}": f"{ours[name] - theirs[name]:+.2f}" for name in PRINTED}
        return list(cells.values())

    def _overlap_mark(self, setting: SettingResult) -> str:
        found = self.overlaps[self.settings.index(setting)]
        return f" {found.mark}" if found else ""

    def _mark(self, note: str | None) -> str:
        if note is None:
            return ""
        return self.footnotes.setdefault(note, MARKS[len(self.footnotes) % len(MARKS)])

    def records(self, study: Study, setting: SettingResult) -> list[dict[str, Any]]:
        data = {
            "benchmark": setting.benchmark.name,
            "features": setting.features,
            "simulated": is_simulated(setting),
            "split": setting.benchmark.split_name,
            "like": self.like,
            "overlap": "; ".join(found.reasons) if (found := overlap_of(setting)) else "",
        }
        records = [data | self._record(setting, result) for result in setting.rows]
        guessed = chance(setting.benchmark.split("test"))
        records.append(
            data | {"row": "chance"} | {n: rounded_percent(guessed[key]) for n, key in ACCURACIES.items()}
        )
        for of, over in _gains(study, setting):
            spread = _gain(of, over)
            figures = {name: rounded_percent(mean) for name, (mean, _) in spread.items()}
            figures |= {
                f"{name} std": rounded_percent(std) for name, (_, std) in spread.items() if std is not None
            }
            records.append(data | {"row": f"{of.row.name} - {over.row.name}"} | figures)
        return records

    def _record(self, setting: SettingResult, result: RowResult) -> dict[str, Any]:
        record: dict[str, Any] = {"row": result.row.name, "method": result.row.label}
        if (summary := result.summary) is not None:
            mean, std = summary.test.mean, summary.test.std
            for name, key in ACCURACIES.items():
                record[name] = rounded_percent(mean[key])
                record[f"{name} std"] = rounded_percent(std[key])
                record[f"{name} se"] = rounded_percent(result.clip_error[key])
            record |= {"bias": mean["bias"], "epochs": "/".join(map(str, summary.epochs))}
            facts = ("text", "text_alignment", "bias_search", "feature_scaling", "variant", "preset")
            record |= {name: getattr(summary, name) for name in facts} | {"seeds": len(summary.seeds)}
        record |= {f"printed {n}": value for n, value in self._printed(setting, result.row).items()}
        return record | {"failure": result.failure}

    def notes(self, study: Study) -> list[str]:
        results = [one for setting in self.settings for one in setting.rows]
        notes = [
            "mean ± standard deviation over seeds, percent; se: standard error over test clips (bootstrap "
            "within classes, mean over seeds); bias: mean; epochs: chosen by validation, one a seed"
        ]
        notes += filter(None, (_one_step_note(setting) for setting in self.settings))
        notes += [
            f"{one.benchmark.name}, {one.features} features: {found.note}"
            for one, found in zip(self.settings, self.overlaps, strict=True)
            if found
        ]
        if any(map(is_simulated, self.settings)):
            notes.append(
                "simulated features: the figures say nothing about real videos "
                "(docs/explanation/simulation.md)"
            )
        if self.with_printed:
            notes.append(
                "printed: the paper's figures, of SeLaVi features, main split, published pairing of vectors"
                + ("" if self.with_differences else "; ours were made otherwise, so no difference is shown")
            )
        notes += [f"{mark} {note}" for note, mark in self.footnotes.items()]
        if self.with_printed:
            notes += study.notes
        notes += [f"{one.row.label}: failed, {one.failure}" for one in results if one.failure]
        notes += _absent_notes(results)
        notes += [f"{one.row.label}: {note}" for one in results for note in one.row.notes]
        notes += [
            f"{one.row.label}: not in the paper, {option}: {text}"
            for one in results
            for option, text in one.row.not_in_paper.items()
        ]
        return list(dict.fromkeys([*notes, *_assumed(results)]))


def _absent_notes(results: Sequence[RowResult]) -> list[str]:
    """Why rows are not possible, those of one reason together."""
    labels: dict[str, list[str]] = {}
    for one in results:
        if one.absent:
            labels.setdefault(one.absent, []).append(one.row.label)
    return [f"{', '.join(dict.fromkeys(of))}: not possible here, {why}" for why, of in labels.items()]


def _assumed(results: Sequence[RowResult]) -> list[str]:
    """Options that the presets fill in where the paper says nothing, methods with the same ones together."""
    methods: dict[str, list[str]] = {}
    for result in results:
        method = str(result.row.options["method"])
        options = ", ".join(assumed_options(method))
        if options and method not in methods.setdefault(options, []):
            methods[options].append(method)
    return [f"{', '.join(names)}: not in the paper, {options}" for options, names in methods.items()]


def _summaries(setting: SettingResult) -> list[RunSummary]:
    return [one.summary for one in setting.rows if one.summary]


def _one_step_note(setting: SettingResult) -> str:
    methods = {one.row.label: method_class(str(one.row.options["method"])) for one in setting.rows}
    note = one_step_note(methods, setting.benchmark.features)
    return note and f"{setting.benchmark.name}, {setting.features} features: {note}"


def _vectors(summary: RunSummary) -> str:
    return f"{summary.text_alignment} ({summary.text})"


def counted(number: int | str, noun: str) -> str:
    """``1 seed``, ``5 seeds``, ``3 or 5 seeds``."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def _gains(study: Study, setting: SettingResult) -> list[tuple[RowResult, RowResult]]:
    """The pairs of finished rows whose difference the study asks for."""
    done = {one.row.name: one for one in setting.rows if one.summary}
    return [(done[of], done[over]) for of, over in study.gains if of in done and over in done]


def _gain_name(of: RowResult, over: RowResult) -> str:
    return f"{of.row.label} − {over.row.label}"


def _gain(of: RowResult, over: RowResult) -> dict[str, tuple[float, float | None]]:
    """Mean and deviation of the differences of the seeds that both have."""
    ours, theirs = ({result.seed: result.test for result in one.results} for one in (of, over))
    seeds = sorted(ours.keys() & theirs.keys())
    gains = {}
    for name, key in ACCURACIES.items():
        differences = [getattr(ours[seed], key) - getattr(theirs[seed], key) for seed in seeds]
        values = torch.tensor(differences, dtype=torch.float64)
        gains[name] = float(values.mean()), float(values.std()) if len(seeds) > 1 else None
    return gains


def _title(setting: SettingResult) -> str:
    """Data and settings of the runs; all values where rows differ."""
    summaries = _summaries(setting)
    simulated = "SIMULATED " if is_simulated(setting) else ""
    if not summaries:
        return f"{simulated}{setting.benchmark.name}, {setting.features}: no row has finished"

    def of(key: str) -> str:
        return " or ".join(dict.fromkeys(str(getattr(summary, key)) for summary in summaries))

    seeds = " or ".join(map(str, sorted({len(summary.seeds) for summary in summaries}, reverse=True)))
    return (
        f"{simulated}{of('benchmark')}, {of('split')} split, {of('features')} features "
        f"({of('feature_scaling')}), {of('text_alignment')} class vectors ({of('text')}), "
        f"{of('bias_search')} bias search, preset {of('preset')}, {counted(seeds, 'seed')}"
    )


# --- Table 1 --------------------------------------------------------------------------------------

_CLASSES = {
    "C": "classes",
    "S": "seen",
    "U": "unseen",
    "tr_s": "train",
    "val_s": "val_seen",
    "val_u": "val_unseen",
    "tr_s (stage 2)": "train_val",
    "te_s": "test_seen",
    "te_u": "test_unseen",
}


def table_1(benchmarks: Sequence[str], split: str) -> Comparison:
    """Classes of the benchmarks by part of the split, computed from their lists; clips below them."""
    rows = [row for row in info_rows() if row.benchmark in benchmarks and row.split == split]
    notes = [note for row in rows for note in row.notes]
    marks = dict(zip(notes, MARKS, strict=False))
    cells = []
    for row in rows:
        own = dict(zip(row.printed, row.notes, strict=True))
        cells.append(
            [row.title, *(f"{row.classes[c]}{marks.get(own.get(c, ''), '')}" for c in _CLASSES.values())]
        )
    title = f"Table 1: classes of the benchmarks, {split} split"
    return Comparison(
        title,
        ["benchmark", *_CLASSES],
        [RowGroup("", cells)],
        [f"{mark} {note}" for note, mark in marks.items()],
    )
