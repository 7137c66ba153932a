"""The tables of the report that compare groups of runs: figures, tests, curves in one plot, classes."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sacma.data.overview import chance
from sacma.metrics.gzsl import NORMAL_95, clip_errors, seen_unseen_curve
from sacma.metrics.significance import holm, paired
from sacma.results import charts
from sacma.results.charts import Line
from sacma.results.run_groups import SHOWN, Run, RunGroup, mean_and_values, overlap_of
from sacma.studies.study import Row, read_study

TESTED = ("HM", "ZSL")
CURVES = 12  # in one plot: as many as colours and dashes keep apart
CLASSES = 40  # in the table of differences


def comparisons(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """One table for each set of test clips; its first group is the one that others are compared with."""
    together: dict[tuple[Any, ...], list[tuple[int, RunGroup]]] = defaultdict(list)
    for place, group in enumerate(groups):
        together[group.runs[0].test_clips].append((place, group))
    return [_comparison(members) for members in together.values()]


def _comparison(members: Sequence[tuple[int, RunGroup]]) -> dict[str, Any]:
    reference = members[0][1]
    result = reference.runs[0].result
    clips = len(reference.runs[0].predictions["clip"])
    seen = [reference.runs[0].seen[name] for name in reference.runs[0].classes]
    tests = {
        name: [paired(group.values(name), reference.values(name)) for _, group in members[1:]]
        for name in TESTED
    }
    adjusted = {name: holm([test.p for test in some]) for name, some in tests.items()}
    rows = []
    for row, (place, group) in enumerate(members):
        figures_of = {name: mean_and_values(group.values(name).values()) for name in SHOWN}
        compared = {
            name: {"test": tests[name][row - 1], "p": adjusted[name][row - 1]} for name in TESTED if row
        }
        rows.append(
            {
                "anchor": f"run-{place}",
                "label": group.label,
                "mark": found.mark if (found := overlap_of(group.runs[0])) else "",
                "seeds": len(group.runs),
                "figures": figures_of,
                "compared": compared,
                "over_clips": over_clips(group),
                "parameters": parameters_of(group.runs[0]),
                "seconds": training_seconds(group),
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
        "chance": chance(sum(seen), len(seen) - sum(seen)),
        "published": published_figures([group for _, group in members]),
        "curves": _curves([group for _, group in members]) if len(members) > 1 else None,
        "differences": _differences(reference, best) if (best := _best_other(members)) else None,
        "mixed": _mixed([group for _, group in members]),
    }


def _mixed(groups: Sequence[RunGroup]) -> list[str]:
    """Settings in which the rows of a table differ, besides the method."""
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


def over_clips(group: RunGroup) -> dict[str, float]:
    """Half the 95 % interval of S, U, HM and ZSL over the choice of test clips, mean over seeds."""
    errors = []
    for run in group.runs:
        _, labels, seen = run.scores
        counts = torch.bincount(labels, minlength=len(run.classes))
        per_class, per_class_zsl = (
            torch.tensor([accuracies.get(name, torch.nan) for name in run.classes])
            for accuracies in (run.result.test.per_class, run.result.test.per_class_zsl)
        )
        errors.append(clip_errors(per_class, per_class_zsl, counts, seen))
    fields = {name: field for name, field in SHOWN.items() if field in errors[0]}
    return {
        name: NORMAL_95 * statistics.fmean(one[field] for one in errors) for name, field in fields.items()
    }


def parameters_of(run: Run) -> int | None:
    """Numbers in a run's weights, buffers included; None where the file cannot be read."""
    try:
        with safe_open(run.folder.path / "model.safetensors", framework="np") as weights:
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def training_seconds(group: RunGroup) -> float | None:
    """Seconds of all epochs of both stages, mean over seeds; None where they are not known."""
    times = [sum(row.seconds for row in run.epochs) for run in group.runs if run.epochs]
    return statistics.fmean(times) if times else None


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours with two digits.

    Example:
        >>> [duration(one) for one in (None, 0.24, 75, 9000)]
        ['–', '0.24 s', '1.2 min', '2.5 h']
    """
    if seconds is None:
        return "–"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


@cache
def _table_2() -> tuple[Row, ...]:
    return tuple(read_study("table2"))


def published_figures(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """The paper's figures, in percent, of the methods of some groups on their benchmark; none for others."""
    benchmark = groups[0].runs[0].result.benchmark
    methods = {group.runs[0].config.method for group in groups}
    return [
        {"label": row.label, "figures": row.expected[benchmark]}
        for row in _table_2()
        if benchmark in row.expected and row.options.get("method") in methods
    ]


def _curves(groups: Sequence[RunGroup]) -> dict[str, Any]:
    """The seen-unseen curves of the groups with the largest HM, of the first seed of each."""
    ordered = sorted(groups, key=lambda group: -statistics.fmean(group.values("HM").values()))
    lines, chosen = {}, []
    for group in ordered[:CURVES]:
        run = group.runs[0]
        curve = seen_unseen_curve(*run.scores)
        lines[group.label] = Line(curve.unseen.tolist(), curve.seen.tolist())
        chosen.append((run.result.test.unseen, run.result.test.seen))
    return {"svg": charts.seen_unseen_of_all(lines, chosen), "left_out": len(ordered) - len(lines)}


def _best_other(members: Sequence[tuple[int, RunGroup]]) -> RunGroup | None:
    """The group with the largest HM beside the first one."""
    others = [group for _, group in members[1:]]
    return max(others, key=lambda group: statistics.fmean(group.values("HM").values()), default=None)


def _differences(first: RunGroup, second: RunGroup) -> dict[str, Any]:
    """Accuracy of each class in two groups, means over seeds; the largest differences first."""
    of_first, of_second = (_class_accuracies(group) for group in (first, second))
    run = first.runs[0]
    clips = Counter(run.predictions["class"])
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "seen": run.seen[name],
            "clips": clips[name],
            "first": of_first[name],
            "second": of_second[name],
            "difference": of_second[name] - of_first[name],
        }
        for name in of_first.keys() & of_second.keys()
    ]
    rows.sort(key=lambda row: (-abs(row["difference"]), row["name"]))
    better, worse = (sum(sign * row["difference"] > 0 for row in rows) for sign in (1, -1))
    return {
        "first": first.label,
        "second": second.label,
        "rows": rows[:CLASSES],
        "better": better,
        "worse": worse,
        "same": len(rows) - better - worse,
    }


def _class_accuracies(group: RunGroup) -> dict[str, float]:
    results = [run.result.test.per_class for run in group.runs]
    return {name: statistics.fmean(one[name] for one in results) for name in results[0]}
