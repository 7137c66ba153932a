"""The section of the report about one group of runs: its curves, classes, wrong answers and settings."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.metrics.gzsl import harmonic_mean, seen_unseen_curve
from sacma.progress import EpochRow
from sacma.results import charts, figure3
from sacma.results.charts import Line
from sacma.results.run_groups import SHOWN, Run, RunGroup, mean_and_values, overlap_of, settings_of
from sacma.results.thumbnails import thumbnails
from sacma.runs.config import method_class
from sacma.runs.prepare import open_benchmark
from sacma.training.evaluation import one_step_note

CONFUSED = 10  # classes in the confusion matrix
WRONG_CLASSES = 25  # classes in the table of wrong answers
WRONG_CLIPS = 25  # clips in the table of wrong answers
LINES = 6  # in one chart: as many as there are colours


def section_of(group: RunGroup, place: int, root: str | None, clips: Path | None) -> dict[str, Any]:
    first = group.runs[0]
    benchmark, notes = _benchmark(first, root)
    embedding, more = _embedding(first, benchmark)
    if benchmark is not None:
        note = one_step_note({group.label: method_class(first.config.method)}, benchmark.features)
        notes += [note] if note else []
    found = overlap_of(first)
    notes += [found.note] if found else []
    wrong_clips = _wrong_clips(first)
    return {
        "anchor": f"run-{place}",
        "label": group.label,
        "mark": found.mark if found else "",
        "facts": settings_of(group),
        "seeds": [run.seed for run in group.runs],
        "test": {name: mean_and_values(group.values(name).values()) for name in SHOWN},
        "validation": {name: mean_and_values(group.values(name, "validation").values()) for name in SHOWN},
        "rejection": {
            names: mean_and_values(run.rejection[names] for run in group.runs) for names in ("seen", "unseen")
        },
        "bias": mean_and_values(run.result.test.bias for run in group.runs),
        "epochs": [run.result.epochs for run in group.runs],
        "warnings": _warnings(group),
        "validation_curve": _validation_curve(group),
        "losses": _loss_charts(group),
        "seen_unseen": _seen_unseen(group),
        "classes": _classes(group),
        "confusion": _confusion(group),
        "wrong_classes": _wrong_classes(group, benchmark),
        "wrong_clips": wrong_clips,
        "thumbnails": thumbnails([clip["clip"] for clip in wrong_clips], clips) if clips else {},
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


def _warnings(group: RunGroup) -> list[str]:
    every = [
        w for run in group.runs for part in (run.result.validation, run.result.test) for w in part.warnings
    ]
    return list(dict.fromkeys(every))


def _line(points: Mapping[float, Sequence[float]]) -> Line:
    """The mean over runs, with their range if there are several."""
    x = sorted(points)
    y = [statistics.fmean(points[one]) for one in x]
    if max(map(len, points.values())) < 2:
        return Line(x, y)
    return Line(x, y, [min(points[one]) for one in x], [max(points[one]) for one in x])


def _over_epochs(
    group: RunGroup, stage: int, value: Callable[[EpochRow], Mapping[str, float]]
) -> dict[str, Line]:
    """Name -> line over the epochs of a stage; ``value`` gives names and values of one epoch."""
    points: dict[str, dict[float, list[float]]] = {}
    for run in group.runs:
        for row in run.epochs:
            if row.stage == stage:
                for name, number in value(row).items():
                    points.setdefault(name, {}).setdefault(row.epoch, []).append(number)
    return {name: _line(of_name) for name, of_name in points.items()}


def _validation_curve(group: RunGroup) -> str | None:
    def shown(row: EpochRow) -> dict[str, float]:
        figures_of = row.validation or {}
        return {name: figures_of[SHOWN[name]] for name in ("HM", "S", "U", "ZSL") if figures_of}

    lines = _over_epochs(group, 1, shown)
    if not lines:
        return None
    # Four bands would hide each other; HM is the measure that chooses the epoch.
    lines = {name: line if name == "HM" else Line(line.x, line.y) for name, line in lines.items()}
    chosen = [run.result.epochs for run in group.runs]
    return charts.curves(lines, ylabel="validation (%)", marked=chosen, percent=True)


def _loss_charts(group: RunGroup) -> list[dict[str, Any]]:
    """Charts of the loss: the sum, then the terms by family (the name before the underscore) and stage."""
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
    """Title -> name in the legend -> loss term, at most ``LINES`` for a chart."""
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


def _seen_unseen(group: RunGroup) -> str | None:
    lines, best = [], []
    for run in group.runs:
        curve = seen_unseen_curve(*run.scores)
        if bool(curve.seen.isnan().any() | curve.unseen.isnan().any()):
            return None
        lines.append(Line(curve.unseen.tolist(), curve.seen.tolist()))
        top = int(harmonic_mean(curve.seen, curve.unseen).argmax())
        best.append((curve.unseen[top].item(), curve.seen[top].item()))
    chosen = [(run.measure("U"), run.measure("S")) for run in group.runs]
    return charts.seen_unseen(lines, chosen, best)


def _classes(group: RunGroup) -> list[dict[str, Any]]:
    """A row for each class with test clips: unseen classes first, then by accuracy."""
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


def _answers(group: RunGroup) -> dict[str, Counter[str]]:
    """Class -> predictions for its clips, over all runs."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for run in group.runs:
        for true, answer in zip(run.predictions["class"], run.predictions["prediction"], strict=True):
            answers[true][str(answer)] += 1
    return answers


def _confusion(group: RunGroup) -> dict[str, Any]:
    """Confusion matrix of the classes with the largest share of wrong predictions, as class or prediction."""
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


def _wrong_classes(group: RunGroup, benchmark: Benchmark | None) -> list[dict[str, Any]]:
    """Classes by their share of wrong predictions, with these predictions and the nearest class names."""
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
    """Class -> the three test classes with the most similar class vectors, with the cosine."""
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
    """Clips with a wrong prediction, one of each class in turn."""
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
