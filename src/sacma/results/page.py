"""The report: one self-contained HTML page about one or several runs, without scripts and without network.

Runs that differ by their seed alone make up a group; groups with the same test clips are compared. What
cannot be read or shown is left out, and a note says why. The page itself is ``templates/report.html``.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError, requires
from sacma.files import read_json, write_text
from sacma.metrics.gzsl import ACCURACIES, Nearest, harmonic_mean, seen_unseen_curve
from sacma.metrics.significance import LEAST_PAIRS, holm, paired
from sacma.progress import EpochRow
from sacma.results import charts, figure3
from sacma.results.charts import Line
from sacma.runs.config import RunConfig, method_class
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import open_benchmark
from sacma.runs.records import RunResult
from sacma.training.evaluation import one_step_note
from sacma.version import __version__

SHOWN = {**ACCURACIES, "AUSUC": "ausuc"}
TESTED = ("HM", "ZSL")
CONFUSED = 10  # classes in the confusion matrix
WRONG_CLASSES = 25  # classes in the table of wrong answers
WRONG_CLIPS = 25
LINES = 6  # in one chart: as many as there are colours
LARGEST = 5_000_000  # bytes of a page


# --- What runs say ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished run, read.

    Attributes:
        folder: where it is.
        config: what it was started with.
        result: what result.json says.
        epochs: the rows of metrics.jsonl; none for imported weights.
        predictions: the columns of predictions.parquet.
        environment: what environment.json says; empty where it cannot be read.
    """

    folder: RunFolder
    config: RunConfig
    result: RunResult
    epochs: Sequence[EpochRow]
    predictions: Mapping[str, Sequence[Any]]
    environment: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return self.config.seed

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The candidates that a test clip is of or came near to, in ascending order."""
        columns = (self.predictions[name] for name in ("class", "nearest_seen", "nearest_unseen"))
        return tuple(sorted({name for column in columns for name in column if name is not None}))

    @cached_property
    def seen(self) -> dict[str, bool]:
        """Class -> whether it is seen."""
        known = dict(zip(self.predictions["class"], self.predictions["seen"], strict=True))
        known |= dict.fromkeys(filter(None, self.predictions["nearest_seen"]), True)
        return known | dict.fromkeys(filter(None, self.predictions["nearest_unseen"]), False)

    @cached_property
    def scores(self) -> tuple[Nearest, Tensor, Tensor]:
        """Nearest classes (N), labels (N,) and seen (K,), as the metrics take them."""
        position = {name: place for place, name in enumerate(self.classes)}

        def placed(column: str) -> Tensor:
            return torch.tensor([position.get(name, -1) for name in self.predictions[column]])

        def distances(column: str) -> Tensor:
            values = [math.inf if value is None else value for value in self.predictions[column]]
            return torch.tensor(values, dtype=torch.float64)

        nearest = Nearest(
            distances("nearest_seen_distance"),
            placed("nearest_seen"),
            distances("nearest_unseen_distance"),
            placed("nearest_unseen"),
        )
        return nearest, placed("class"), torch.tensor([self.seen[name] for name in self.classes])

    @property
    def test_clips(self) -> tuple[Any, ...]:
        """What decides whether two runs can be compared: benchmark, split and test clips."""
        clips = sorted(zip(self.predictions["clip"], self.predictions["class"], strict=True))
        return self.result.benchmark, self.result.split, tuple(clips)

    def figure(self, name: str, part: str = "test") -> float:
        return float(getattr(getattr(self.result, part), SHOWN[name]))


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed.

    Attributes:
        label: the method, and what tells it from other groups of it.
        runs: at least one, by seed.
    """

    label: str
    runs: tuple[Run, ...]

    def values(self, name: str, part: str = "test") -> dict[int, float]:
        """Seed -> figure, as a fraction."""
        return {run.seed: run.figure(name, part) for run in self.runs}


def read_run(path: Path) -> Run:
    """Read a finished run.

    Raises:
        SacmaError: it is unfinished, a file is damaged, or they contradict each other.
    """
    folder = RunFolder.open(path, finished=True)
    try:
        environment = read_json(path / "environment.json")
    except SacmaError:  # for the record alone
        environment = {}
    run = Run(folder, folder.config(), folder.result(), folder.metrics(), folder.predictions(), environment)
    nearest, labels, seen = run.scores
    curve = seen_unseen_curve(nearest, labels, seen)
    area, stored = torch.trapezoid(curve.seen, curve.unseen).item(), run.result.test.ausuc
    if not abs(area - stored) < 1e-6:
        raise SacmaError(
            f"{path}: predictions.parquet has an AUSUC of {area:.4f}, result.json of {stored:.4f}; they are "
            "not of the same run, train again with --force"
        )
    return run


def find_runs(path: Path) -> list[Path]:
    """The run folders that a name on the command line means: itself, or those up to two folders below.

    Raises:
        SacmaError: there are none.
    """
    if not path.is_dir():
        raise SacmaError(f"{path}: no such run folder")
    if (path / "config.yaml").is_file():
        return [path]
    found = [config.parent for depth in ("*", "*/*") for config in path.glob(f"{depth}/config.yaml")]
    if not found:
        raise SacmaError(f"{path} has no run in it; name a run folder, or a folder of seeds or methods")
    return sorted(found)


def collect(paths: Sequence[Path]) -> tuple[list[Group], list[str]]:
    """The groups of all runs below ``paths``, and a note for each run that had to be left out.

    Raises:
        SacmaError: nothing is there, or nothing can be read.
    """
    runs: list[Run] = []
    notes: list[str] = []
    for folder in dict.fromkeys(found.resolve() for path in paths for found in find_runs(path)):
        try:
            runs.append(read_run(folder))
        except SacmaError as error:
            notes.append(f"Left out: {error}")
    if not runs:
        raise SacmaError("; ".join(notes).replace("Left out: ", "").strip())
    groups: dict[tuple[Any, ...], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        seeds = groups[_identity(run)]
        if run.seed in seeds:
            notes.append(f"Left out: {run.folder.path} repeats {seeds[run.seed].folder.path}")
        seeds.setdefault(run.seed, run)
    ordered = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in groups.values()]
    ordered.sort(key=lambda members: members[0].config.method != "sacma")  # stable: the rest as given
    return [Group(label, members) for label, members in zip(_labels(ordered), ordered, strict=True)], notes


def _identity(run: Run) -> tuple[Any, ...]:
    """All options but the seed, and where the data lie."""
    options = replace(run.config, seed=0, data=replace(run.config.data, root=None)).options()
    return (*sorted((name, str(value)) for name, value in options.items()), run.test_clips)


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The method, its variant where it is not the default, the benchmark where there are several test sets,
    and the options in which namesakes differ.
    """
    firsts = [members[0] for members in groups]
    several = len({run.test_clips for run in firsts}) > 1
    tests = [f" on {run.result.benchmark} ({len(run.test_clips[-1])} test clips)" for run in firsts]
    plain = [
        _plain_label(run.config) + (test if several else "") for run, test in zip(firsts, tests, strict=True)
    ]
    options = [
        run.config.options() | {"root": None, "seed": None, "text": Path(run.result.text).name}
        for run in firsts
    ]
    labels = []
    for label, own in zip(plain, options, strict=True):
        alike = [other for name, other in zip(plain, options, strict=True) if name == label]
        differing = [key for key in own if len({str(other.get(key)) for other in alike}) > 1]
        shown = ", ".join(f"{key} {own[key]}" for key in differing[:3])
        labels.append(f"{label}, {shown}" if shown else label)
    return labels


def _plain_label(config: RunConfig) -> str:
    default = next(iter(method_class(config.method).VARIANTS))
    return config.method if config.variant == default else f"{config.method} ({config.variant})"


# --- The page -----------------------------------------------------------------------------------------


def write_report(
    paths: Sequence[Path], out: Path | None = None, *, root: str | None = None
) -> tuple[Path, list[str]]:
    """Write the page of all runs below ``paths``.

    Args:
        paths: run folders, or folders of seeds or of methods.
        out: file; by default ``report.html`` in the run or folder, for several in the current folder.
        root: where the benchmark is now, if it has moved; for t-SNE and nearest class names.

    Returns:
        The file, and notes about what was left out.

    Raises:
        SacmaError: no run can be read, an extra is missing, or the file cannot be written.
    """
    groups, notes = collect(paths)
    out = out or (paths[0] if len(paths) == 1 else Path()) / "report.html"
    page, more = render(groups, notes, root=root)
    write_text(out, page)
    return out, [*notes, *more]


def render(
    groups: Sequence[Group], notes: Sequence[str], *, root: str | None = None
) -> tuple[str, list[str]]:
    """The HTML of the page, and notes about what could not be shown."""
    with requires("report", "the report needs Jinja2"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    environment = Environment(
        loader=PackageLoader("sacma.results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "signed": _signed, "number": _number}
    sections = [_section(group, place, root) for place, group in enumerate(groups)]
    missing = [f"{section['label']}: {note}" for section in sections for note in section["notes"]]
    content = {
        "version": __version__,
        "title": _title(groups),
        "tables": _comparisons(groups),
        "sections": sections,
        "notes": notes,
        "least_pairs": LEAST_PAIRS,
        "tested": TESTED,
    }
    template = environment.get_template("report.html")
    page = template.render(content)
    # A page of very many runs: what is large and can be drawn for fewer runs goes first.
    for part, what, empty in (("tsne", "t-SNE", None), ("losses", "curves of loss terms", [])):
        for section in reversed(sections):
            if len(page.encode()) > LARGEST and section[part]:
                section[part] = empty
                missing.append(f"{section['label']}: no {what}, the page would be larger than 5 MB")
                section["notes"].append(f"No {what} here: the page would be larger than 5 MB.")
                page = template.render(content)
    return page, missing


def _title(groups: Sequence[Group]) -> str:
    benchmarks = dict.fromkeys(group.runs[0].result.benchmark for group in groups)
    methods = dict.fromkeys(group.runs[0].config.method for group in groups)
    return f"{_some(list(methods), 3)} on {_some(list(benchmarks), 3)}"


def _some(names: Sequence[str], limit: int) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _percent(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:+.1f}".replace("-", "−")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def _figure(values: Iterable[float]) -> dict[str, Any]:
    given = list(values)
    spread = statistics.stdev(given) if len(given) > 1 else None
    return {"mean": statistics.fmean(given), "std": spread, "values": given}


def _comparisons(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One table for each set of test clips, the first group being what the others are compared with."""
    together: dict[tuple[Any, ...], list[tuple[int, Group]]] = defaultdict(list)
    for place, group in enumerate(groups):
        together[group.runs[0].test_clips].append((place, group))
    return [_comparison(members) for members in together.values()]


def _comparison(members: Sequence[tuple[int, Group]]) -> dict[str, Any]:
    reference = members[0][1]
    result = reference.runs[0].result
    clips = len(reference.runs[0].predictions["clip"])
    tests = {
        name: [paired(group.values(name), reference.values(name)) for _, group in members[1:]]
        for name in TESTED
    }
    adjusted = {name: holm([test.p for test in some]) for name, some in tests.items()}
    rows = []
    for row, (place, group) in enumerate(members):
        figures_of = {name: _figure(group.values(name).values()) for name in SHOWN}
        compared = {
            name: {"test": tests[name][row - 1], "p": adjusted[name][row - 1]} for name in TESTED if row
        }
        rows.append(
            {
                "anchor": f"run-{place}",
                "label": group.label,
                "seeds": len(group.runs),
                "figures": figures_of,
                "compared": compared,
                "facts": _facts(group),
            }
        )
    drawn = [
        (
            name,
            charts.comparison(name, {group.label: list(group.values(name).values()) for _, group in members}),
        )
        for name in TESTED
    ]
    return {
        "title": f"{result.benchmark}, {result.split} split",
        "clips": clips,
        "classes": len(reference.runs[0].classes),
        "reference": reference.label,
        "rows": rows,
        "charts": drawn if len(members) > 1 else [],
        "mixed": _mixed([group for _, group in members]),
    }


def _mixed(groups: Sequence[Group]) -> list[str]:
    """In what the rows of a table differ besides their method."""
    what = {
        "features": "features",
        "text": "class vectors",
        "text_alignment": "alignment of class vectors",
        "bias_search": "bias search",
        "preset": "preset",
    }
    results = [group.runs[0].result for group in groups]
    found = {
        words: dict.fromkeys(str(getattr(result, key)) for result in results) for key, words in what.items()
    }
    return [f"{words}: {', '.join(values)}" for words, values in found.items() if len(values) > 1]


def _facts(group: Group) -> str:
    """What the figures were made with."""
    result = group.runs[0].result
    return (
        f"{result.features} features ({result.feature_scaling}), {result.text_alignment} class "
        f"vectors ({result.text}), {result.bias_search} bias search, preset {result.preset}"
    )


# --- One group ----------------------------------------------------------------------------------------


def _section(group: Group, place: int, root: str | None) -> dict[str, Any]:
    first = group.runs[0]
    benchmark, notes = _benchmark(first, root)
    embedding, more = _embedding(first, benchmark)
    if benchmark is not None:
        note = one_step_note({group.label: method_class(first.config.method)}, benchmark.features)
        notes += [note] if note else []
    return {
        "anchor": f"run-{place}",
        "label": group.label,
        "facts": _facts(group),
        "seeds": [run.seed for run in group.runs],
        "test": {name: _figure(group.values(name).values()) for name in SHOWN},
        "validation": {name: _figure(group.values(name, "validation").values()) for name in SHOWN},
        "bias": _figure(run.result.test.bias for run in group.runs),
        "epochs": [run.result.epochs for run in group.runs],
        "warnings": _warnings(group),
        "validation_curve": _validation_curve(group),
        "losses": _loss_charts(group),
        "seen_unseen": _seen_unseen(group),
        "classes": _classes(group),
        "confusion": _confusion(group),
        "wrong_classes": _wrong_classes(group, benchmark),
        "wrong_clips": _wrong_clips(first),
        "tsne": embedding and _tsne(first, embedding),
        "options": first.config.sections(),
        "environment": _environment(first),
        "paths": [str(run.folder.path) for run in group.runs],
        "notes": [*notes, *more],
    }


def _benchmark(run: Run, root: str | None) -> tuple[Benchmark | None, list[str]]:
    data = run.config.data
    try:
        return open_benchmark(replace(data, root=root or data.root)), []
    except SacmaError as error:
        return None, [f"no t-SNE and no nearest class names, the data cannot be opened: {error}"]


def _embedding(run: Run, benchmark: Benchmark | None) -> tuple[figure3.Embedding | None, list[str]]:
    if benchmark is None:
        return None, []
    try:
        return figure3.embed_run(run.folder, benchmark), []
    except SacmaError as error:
        return None, [f"no t-SNE: {error}"]


def _tsne(run: Run, embedding: figure3.Embedding) -> dict[str, Any]:
    drawn = figure3.draw_panels(embedding)
    return {
        "panels": list(zip(embedding.panels, drawn, strict=True)),
        "legend": [figure3.legend_mark(number) for number in range(len(embedding.classes))],
        "classes": embedding.classes,
        "seed": run.seed,
        "clips": len(embedding.clips),
    }


def _warnings(group: Group) -> list[str]:
    every = [
        w for run in group.runs for part in (run.result.validation, run.result.test) for w in part.warnings
    ]
    return list(dict.fromkeys(every))


def _line(points: Mapping[float, Sequence[float]]) -> Line:
    """The mean over runs, and their range where there is more than one."""
    x = sorted(points)
    y = [statistics.fmean(points[one]) for one in x]
    if max(map(len, points.values())) < 2:
        return Line(x, y)
    return Line(x, y, [min(points[one]) for one in x], [max(points[one]) for one in x])


def _over_epochs(
    group: Group, stage: int, value: Callable[[EpochRow], Mapping[str, float]]
) -> dict[str, Line]:
    """Name -> line; ``value`` gives the names and values of an epoch's row."""
    points: dict[str, dict[float, list[float]]] = {}
    for run in group.runs:
        for row in run.epochs:
            if row.stage == stage:
                for name, number in value(row).items():
                    points.setdefault(name, {}).setdefault(row.epoch, []).append(number)
    return {name: _line(of_name) for name, of_name in points.items()}


def _validation_curve(group: Group) -> str | None:
    def shown(row: EpochRow) -> dict[str, float]:
        figures_of = row.validation or {}
        return {name: figures_of[SHOWN[name]] for name in ("HM", "S", "U", "ZSL") if figures_of}

    lines = _over_epochs(group, 1, shown)
    if not lines:
        return None
    # Four bands would hide each other; HM is what is chosen by.
    lines = {name: line if name == "HM" else Line(line.x, line.y) for name, line in lines.items()}
    chosen = [run.result.epochs for run in group.runs]
    return charts.curves(lines, ylabel="validation (%)", marked=chosen, percent=True)


def _loss_charts(group: Group) -> list[dict[str, Any]]:
    """Charts of the terms by family (the part of a name before the underscore) and stage, the sum first."""
    totals = {
        f"stage {stage}": line
        for stage in (1, 2)
        for line in _over_epochs(group, stage, lambda row: {"loss": row.loss}).values()
    }
    shown = [{"title": "sum of all terms", "svg": charts.curves(totals, ylabel="loss")}] if totals else []
    terms = {stage: _over_epochs(group, stage, lambda row: row.losses) for stage in (1, 2)}
    for title, names in _families([name for some in terms.values() for name in some]).items():
        for stage, lines in terms.items():
            drawn = {short: lines[name] for short, name in names.items() if name in lines}
            if drawn:
                svg = charts.curves(drawn, ylabel="loss, weighted")
                shown.append({"title": f"{title}, stage {stage}", "svg": svg})
    return shown


def _families(terms: Sequence[str]) -> dict[str, dict[str, str]]:
    """Title -> name in the legend -> term, no more of them than there are colours."""
    names = list(dict.fromkeys(terms))
    members = Counter(name.partition("_")[0] for name in names)
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        family, _, rest = name.partition("_")
        title, shown = (family, rest or family) if members[family] > 1 else ("other terms", name)
        families[title][shown] = name
    return {
        title if first == 0 else f"{title}, more": dict(list(some.items())[first : first + LINES])
        for title, some in families.items()
        for first in range(0, len(some), LINES)
    }


def _seen_unseen(group: Group) -> str | None:
    lines, best = [], []
    for run in group.runs:
        curve = seen_unseen_curve(*run.scores)
        if bool(curve.seen.isnan().any() | curve.unseen.isnan().any()):
            return None
        lines.append(Line(curve.unseen.tolist(), curve.seen.tolist()))
        top = int(harmonic_mean(curve.seen, curve.unseen).argmax())
        best.append((curve.unseen[top].item(), curve.seen[top].item()))
    chosen = [(run.figure("U"), run.figure("S")) for run in group.runs]
    return charts.seen_unseen(lines, chosen, best)


def _classes(group: Group) -> list[dict[str, Any]]:
    """A row a class with test clips, unseen classes first, the best first."""
    first = group.runs[0]
    clips = Counter(first.predictions["class"])
    rows = []
    for name in sorted(clips):
        accuracy = [run.result.test.per_class.get(name, math.nan) for run in group.runs]
        alone = [run.result.test.per_class_zsl.get(name, math.nan) for run in group.runs]
        rows.append(
            {
                "name": name,
                "seen": first.seen[name],
                "clips": clips[name],
                "accuracy": statistics.fmean(accuracy),
                "low": min(accuracy),
                "high": max(accuracy),
                "zsl": None if first.seen[name] else statistics.fmean(alone),
            }
        )
    return sorted(rows, key=lambda row: (row["seen"], -row["accuracy"], row["name"]))


def _answers(group: Group) -> dict[str, Counter[str]]:
    """Class -> answers given to its clips, over all runs."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for run in group.runs:
        for true, answer in zip(run.predictions["class"], run.predictions["prediction"], strict=True):
            answers[true][str(answer)] += 1
    return answers


def _confusion(group: Group) -> dict[str, Any]:
    """Shares of answers among the classes that are most in the wrong answers, given or deserved."""
    answers = _answers(group)
    involved: dict[str, float] = defaultdict(float)
    for true, given in answers.items():
        total = sum(given.values())
        for answer, count in given.items():
            if answer != true:
                involved[true] += count / total
                involved[answer] += count / total
    names = sorted(sorted(involved, key=lambda name: (-involved[name], name))[:CONFUSED])
    rows = []
    for name in filter(answers.get, names):
        given, total = answers[name], sum(answers[name].values())
        cells = [given[other] / total for other in names]
        rows.append({"name": name, "cells": cells, "other": 1 - sum(cells)})
    return {"names": names, "seen": group.runs[0].seen, "rows": rows}


def _wrong_classes(group: Group, benchmark: Benchmark | None) -> list[dict[str, Any]]:
    """Classes by their share of wrong answers: what they were taken for, and which names are near in text."""
    near = _nearest_names(benchmark)
    rows: list[dict[str, Any]] = []
    for name, given in _answers(group).items():
        total = sum(given.values())
        wrong = Counter({answer: count for answer, count in given.items() if answer != name})
        if wrong:
            answers = [(answer, count / total) for answer, count in wrong.most_common(3)]
            rows.append(
                {
                    "name": name,
                    "seen": group.runs[0].seen[name],
                    "wrong": wrong.total() / total,
                    "answers": answers,
                    "near": near.get(name, []),
                }
            )
    return sorted(rows, key=lambda row: (-row["wrong"], row["name"]))[:WRONG_CLASSES]


def _nearest_names(benchmark: Benchmark | None) -> dict[str, list[tuple[str, float]]]:
    """Class -> the three test classes whose vectors are nearest to its own, with the cosine."""
    if benchmark is None:
        return {}
    classes = benchmark.split("test").classes
    unit = torch.nn.functional.normalize(classes.vectors.double(), dim=1)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-math.inf)
    count = min(3, len(classes) - 1)
    values, places = cosines.topk(count, dim=1)
    return {
        name: [(classes.names[place], value) for place, value in zip(row, of_row, strict=True)]
        for name, row, of_row in zip(classes.names, places.tolist(), values.tolist(), strict=True)
    }


def _wrong_clips(run: Run) -> list[dict[str, Any]]:
    """Clips with a wrong answer, one of each class in turn."""
    columns = run.predictions
    waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in zip(*(columns[name] for name in _CLIP_COLUMNS), strict=True):
        clip = dict(zip(_CLIP_COLUMNS, row, strict=True))
        if clip["prediction"] != clip["class"]:
            waiting[clip["class"]].append(clip)
    ordered = sorted(waiting.values(), key=lambda clips: -len(clips))
    turns = max(map(len, ordered), default=0)
    wrong = [clips[turn] for turn in range(turns) for clips in ordered if turn < len(clips)]
    return wrong[:WRONG_CLIPS]


_CLIP_COLUMNS = (
    "clip",
    "class",
    "seen",
    "prediction",
    "nearest_seen",
    "nearest_seen_distance",
    "nearest_unseen",
    "nearest_unseen_distance",
)


def _environment(run: Run) -> dict[str, str]:
    facts = dict(run.environment)
    packages = facts.pop("packages", {})
    facts |= packages if isinstance(packages, dict) else {}
    command = facts.get("command")
    if isinstance(command, list):
        facts["command"] = " ".join(map(str, command))
    return {str(name): str(value) for name, value in facts.items()}
