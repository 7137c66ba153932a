"""Figure 4 of the paper: S, U, HM and ZSL over tau, and over lambda_cos at the tau that validation prefers.

Optuna's grid sampler walks both grids in a study database, so that several machines can share the work and a
killed one goes on. The runs lie where those of the tables do, in folders named after their configuration. The
grids and the order (tau first) are ours, the paper does not say how it chose.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sacma.errors import SacmaError
from sacma.files import replacing, write_text
from sacma.metrics.gzsl import ACCURACIES
from sacma.metrics.percent import percent, rounded_percent
from sacma.progress import SILENT, Reporter
from sacma.results import charts
from sacma.results.tables import counted
from sacma.runs.prepare import benchmark_of, configure
from sacma.studies.study import Row, check_counts, read_facts, row_options, run_study, setting_name
from sacma.studies.tuning import imported_optuna, open_study

PARTS = ("validation", "test")


@dataclass(frozen=True)
class Grid:
    """The values of one option.

    Attributes:
        parameter: option of the run.
        label: as in the paper.
        values: in ascending order.
    """

    parameter: str
    label: str
    values: Sequence[float]


# The paper's own value is among them: 0.05 and 0.2.
GRIDS = (
    Grid("temperature", "tau", (0.01, 0.03, 0.05, 0.07, 0.1, 0.2)),
    Grid("weight_cos", "lambda_cos", (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)),
)


@dataclass(frozen=True)
class SensitivityCurve:
    """The results of a grid.

    Attributes:
        grid: the grid.
        fixed: options that all its points share.
        points: value -> part -> ``mean`` and ``std`` -> figure, as in summary.json, as fractions.
    """

    grid: Grid
    fixed: Mapping[str, float]
    points: Mapping[float, Mapping[str, Mapping[str, Mapping[str, float | None]]]]

    @property
    def chosen(self) -> float:
        """The value with the largest HM on validation; the first of equals."""
        return max(
            self.grid.values, key=lambda value: self.points[value]["validation"]["mean"]["harmonic_mean"] or 0
        )


def reproduce_figure(
    given: Mapping[str, Any],
    *,
    like: str,
    seeds: int,
    jobs: int,
    storage: str | None,
    out: Path,
    reporter: Reporter = SILENT,
) -> tuple[list[SensitivityCurve], list[Path]]:
    """Run both grids, or what is left of them, and draw the figure.

    Args:
        given: options of the runs, such as benchmark, features and root.
        like: ``published`` or ``ours``.
        seeds: of each point.
        jobs: processes at a time.
        storage: URL of the study database; by default figure4.db beside the figure.
        out: folder of all studies; the figure goes to SETTING/ in it.
        reporter: told of each run and each point.

    Returns:
        The curves, and the files written: CSV, PNG and SVG.

    Raises:
        SacmaError: a point failed, the database cannot be opened or holds another study, or a package is
            missing.
    """
    charts.check()
    check_counts(seeds=seeds, jobs=jobs)
    folder = out / setting_name([given], like)
    shared, storage = storage, storage or f"sqlite:///{folder / 'figure4.db'}"
    benchmark = benchmark_of(given, reporter)

    def evaluate(fixed: Mapping[str, float], grid: Grid, value: float) -> dict[str, Any]:
        row = _row(fixed, grid, value)
        (setting,) = run_study([row], [given], like=like, seeds=seeds, jobs=jobs, out=out, reporter=reporter)
        (result,) = setting.rows
        if result.summary is None:
            raise SacmaError(f"{grid.label} {value:g}: {result.failure}")
        return {part: getattr(result.summary, part).to_dict() for part in PARTS}

    curves: list[SensitivityCurve] = []
    fixed: dict[str, float] = {}
    # The points of a grid run side by side, and are then read point by point. Machines that share a database
    # share the points instead: each runs one that no other one does.
    for grid in GRIDS:
        base = Row("", "", 0, {"method": "sacma", **fixed})
        options = configure(row_options(base, given, like=like), benchmark).options()
        # Where the data lie may differ from machine to machine.
        common = {key: value for key, value in options.items() if key not in (grid.parameter, "root")}
        if shared is None and jobs > 1:
            rows = [_row(fixed, grid, value) for value in grid.values]
            run_study(rows, [given], like=like, seeds=seeds, jobs=jobs, out=out, reporter=reporter)
        points = _walk(grid, fixed, common, storage, f"{folder.name}-{seeds}", evaluate)
        curves.append(SensitivityCurve(grid, dict(fixed), points))
        reporter.say(f"{grid.label}: validation prefers {curves[-1].chosen:g}")
        fixed[grid.parameter] = curves[-1].chosen
    title = f"{read_facts('figure4').title}; {folder.name}, {counted(seeds, 'seed')}"
    paths = [folder / f"figure4.{kind}" for kind in ("csv", "png", "svg")]
    write_text(paths[0], _csv(curves))
    figure = draw(curves, heading=title)
    for path in paths[1:]:
        with replacing(path) as partial:
            charts.save(figure, partial, kind=path.suffix[1:])
    return curves, paths


def _row(fixed: Mapping[str, float], grid: Grid, value: float) -> Row:
    """The row of a point; what has run of it is found again by its options."""
    return Row("", f"{grid.label} {value:g}", 0, {"method": "sacma", **fixed, grid.parameter: value})


def _walk(
    grid: Grid,
    fixed: Mapping[str, float],
    options: Mapping[str, Any],
    storage: str,
    setting: str,
    evaluate: Callable[[Mapping[str, float], Grid, float], dict[str, Any]],
) -> dict[float, Any]:
    """The summaries of all points of a grid, from the database where they are there."""
    optuna = imported_optuna()
    at = "".join(f"-{name}-{value:g}" for name, value in fixed.items())
    sampler = optuna.samplers.GridSampler({grid.parameter: list(grid.values)}, seed=0)
    study = open_study(storage, f"figure4-{setting}-{grid.parameter}{at}", options=options, sampler=sampler)
    failed: dict[float, str] = {}

    def summary_of(value: float) -> dict[str, Any]:
        try:
            return evaluate(fixed, grid, value)
        except SacmaError as error:
            failed[value] = str(error)
            raise

    def objective(trial: Any) -> float:
        summary = summary_of(trial.suggest_float(grid.parameter, *ends))
        trial.set_user_attr("summary", summary)
        return _validation_hm(summary)

    ends = min(grid.values), max(grid.values)
    if not sampler.is_exhausted(study):
        study.optimize(objective, catch=(SacmaError,))
    # For the sampler, points that failed in an earlier call are done.
    for value in (one for one in grid.values if one not in _points(study, grid) and one not in failed):
        with suppress(SacmaError):
            summary = summary_of(value)
            study.add_trial(
                optuna.trial.create_trial(
                    value=_validation_hm(summary),
                    params={grid.parameter: value},
                    distributions={grid.parameter: optuna.distributions.FloatDistribution(*ends)},
                    user_attrs={"summary": summary},
                )
            )
    points = _points(study, grid)
    if failed:
        raise SacmaError("; ".join(failed.values()))
    return points


def _validation_hm(summary: Mapping[str, Any]) -> float:
    return float(summary["validation"]["mean"]["harmonic_mean"])


def _points(study: Any, grid: Grid) -> dict[float, Any]:
    done = (imported_optuna().trial.TrialState.COMPLETE,)
    trials = study.get_trials(deepcopy=False, states=done)
    return {trial.params[grid.parameter]: trial.user_attrs["summary"] for trial in trials}


def _csv(curves: Sequence[SensitivityCurve]) -> str:
    """The points as CSV: a row for each value and part, mean and deviation over seeds in percent."""
    text = io.StringIO()
    columns = [column for name in ACCURACIES for column in (name, f"{name} std")]
    writer = csv.DictWriter(text, ["parameter", "value", "part", "chosen", *columns], lineterminator="\n")
    writer.writeheader()
    for curve in curves:
        for value in curve.grid.values:
            for part in PARTS:
                figures = curve.points[value][part]
                record: dict[str, Any] = {"parameter": curve.grid.parameter, "value": value, "part": part}
                record["chosen"] = value == curve.chosen
                for name, key in ACCURACIES.items():
                    record |= {
                        name: rounded_percent(figures["mean"][key]),
                        f"{name} std": rounded_percent(figures["std"][key]),
                    }
                writer.writerow(record)
    return text.getvalue()


def table(curves: Sequence[SensitivityCurve]) -> Table:
    """The results on test and the validation HM of each value, as a table."""
    shown = Table()
    for column in ("", "value", "validation HM", *ACCURACIES):
        shown.add_column(column, justify="right" if column else "left")
    for curve in curves:
        shown.add_section()
        for value in curve.grid.values:
            validation, test = (curve.points[value][part]["mean"] for part in PARTS)
            figures = [test[key] or 0.0 for key in ACCURACIES.values()]
            mark = " *" if value == curve.chosen else ""
            cells = (percent(share) for share in (validation["harmonic_mean"] or 0.0, *figures))
            shown.add_row(curve.grid.label, f"{value:g}{mark}", *cells)
    return shown


def draw(curves: Sequence[SensitivityCurve], *, heading: str) -> Any:
    """A panel a curve, to be saved: test drawn through, validation dashed, deviation over seeds as bars."""
    with charts.drawing(page=False) as figure_class:
        figure = figure_class(figsize=(9.6, 4.2))
        axes = figure.subplots(1, len(curves))
        labels = {curve.grid.parameter: curve.grid.label for curve in curves}
        for axis, curve in zip(axes, curves, strict=True):
            places = np.arange(len(curve.grid.values))  # evenly: the values of tau are not
            for number, (name, key) in enumerate(ACCURACIES.items()):
                for part, dash in (("test", "-"), ("validation", (0, (1, 1.5)))):
                    parts = [curve.points[value][part] for value in curve.grid.values]
                    axis.errorbar(
                        places + 0.05 * (number - 1.5) + (0.025 if part == "test" else 0),  # bars apart
                        [100 * (one["mean"][key] or 0.0) for one in parts],
                        yerr=[100 * (one["std"][key] or 0.0) for one in parts],
                        color=charts.COLOURS[number],
                        marker=charts.MARKERS[number],
                        linestyle=dash,
                        markerfacecolor=charts.COLOURS[number] if part == "test" else "none",
                        elinewidth=0.8,
                        capsize=2,
                        label=f"{name}, {part}",
                    )
            axis.set_xticks(places, [f"{value:g}" for value in curve.grid.values])
            axis.axvline(
                list(curve.grid.values).index(curve.chosen), color="#808080", linewidth=0.8, zorder=0
            )
            at = ", ".join(f"{labels[name]} {value:g}" for name, value in curve.fixed.items())
            axis.set_xlabel(
                f"{curve.grid.label}{f' (at {at})' if at else ''}; the line: chosen by validation HM"
            )
        axes[0].set_ylabel("percent")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.suptitle(heading, fontsize=9)
    return figure
