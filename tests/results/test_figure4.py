"""Figure 4: the grids, what chooses, going on, failures, the files, and a real one."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import folders
from commands import on, sacma
from sacma.data.benchmark import Benchmark
from sacma.metrics.gzsl import MEASURES
from sacma.results import figure4
from sacma.results.figure4 import GRIDS, Grid, SensitivityCurve
from sacma.runs.config import resolve
from sacma.runs.prepare import open_benchmark
from sacma.runs.records import RunIdentity, RunSummary, Spread
from sacma.studies.study import Row, RowResult, SettingResult, run_name, setting_name

pytest.importorskip("optuna")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"))


class Study:
    """In place of training: validation likes tau 0.1 and lambda_cos 0.5, test likes the smallest values."""

    def __init__(self, root: Path) -> None:
        self.given = {"benchmark": folders.NAME, "features": folders.FEATURES, "root": str(root)}
        self.benchmark: Benchmark = open_benchmark(resolve(self.given).data)
        self.ran: list[dict[str, Any]] = []
        self.seeds: list[int] = []
        self.failing: set[float] = set()
        self.side_by_side: list[list[dict[str, Any]]] = []

    def __call__(self, rows: Sequence[Row], settings: Any, *, seeds: int, **_: Any) -> list[SettingResult]:
        if len(rows) > 1:
            self.side_by_side.append([dict(row.options) for row in rows])
            return []
        (row,) = rows
        options = dict(row.options)
        self.ran.append(options)
        self.seeds.append(seeds)
        tau, weight = options["temperature"], options.get("weight_cos")
        if (tau if weight is None else weight) in self.failing:
            return [SettingResult(self.benchmark, "x", [RowResult(row, None, failure="broken")])]
        liked = -abs(tau - 0.1) if weight is None else -abs(weight - 0.5)
        spreads = {}
        for part, hm in (("validation", 0.5 + liked / 4), ("test", 0.5 - tau / 10 - (weight or 0) / 10)):
            spreads[part] = Spread(dict.fromkeys(MEASURES, hm), dict.fromkeys(MEASURES, 0.01))
        texts = dict.fromkeys(RunIdentity.__dataclass_fields__, "x")
        summary = RunSummary(**texts, seeds=[0, 1], epochs=[1, 1], **spreads)
        return [SettingResult(self.benchmark, "x", [RowResult(row, summary)])]


@pytest.fixture
def study(root: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    made = Study(root)
    monkeypatch.setattr(figure4, "run_study", made)
    return made


def reproduce(root: Path, out: Path, *more: object) -> Any:
    return sacma("reproduce", "figure4", *on(root), "--like=ours", "--seeds=2", f"--out={out}", *more)


def folder_of(study: Study, out: Path) -> Path:
    return out / setting_name([study.given], "ours")


def test_the_grids_hold_the_papers_values() -> None:
    published = {grid.parameter: grid.values for grid in GRIDS}
    assert list(published) == ["temperature", "weight_cos"]
    assert 0.05 in published["temperature"]
    assert 0.2 in published["weight_cos"]
    given = {"benchmark": "vggsound", "features": "selavi", "root": "anywhere"}
    complete = Row("", "", 0, {"method": "sacma", "temperature": 0.05, "weight_cos": 0.2})
    assert run_name(complete, given, like="published") == "sacma"


def test_validation_chooses_and_both_are_shown(study: Study, root: Path, tmp_path: Path) -> None:
    outcome = reproduce(root, tmp_path)
    assert outcome.status == 0, outcome.err
    taus = [run["temperature"] for run in study.ran if "weight_cos" not in run]
    assert sorted(taus) == list(GRIDS[0].values)
    # lambda_cos is varied at the tau that validation prefers, though test prefers another.
    weights = [run for run in study.ran if "weight_cos" in run]
    assert {run["temperature"] for run in weights} == {0.1}
    assert sorted(run["weight_cos"] for run in weights) == list(GRIDS[1].values)
    assert "tau: validation prefers 0.1" in outcome.out
    assert "lambda_cos: validation prefers 0.5" in outcome.out
    folder = folder_of(study, tmp_path)
    with (folder / "figure4.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 2 * (len(GRIDS[0].values) + len(GRIDS[1].values))
    chosen = {(record["parameter"], record["value"]) for record in records if record["chosen"] == "True"}
    assert chosen == {("temperature", "0.1"), ("weight_cos", "0.5")}
    first = next(record for record in records if record["part"] == "test")
    assert (float(first["HM"]), float(first["HM std"])) == (pytest.approx(49.9), pytest.approx(1))
    assert (folder / "figure4.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(folder / "figure4.svg").getroot().tag.endswith("svg")
    assert (folder / "figure4.db").is_file()


def test_the_points_of_a_grid_run_side_by_side(study: Study, root: Path, tmp_path: Path) -> None:
    assert reproduce(root, tmp_path / "one").status == 0
    assert study.side_by_side == []
    assert reproduce(root, tmp_path / "two", "--jobs=2").status == 0
    first, second = study.side_by_side
    assert [run["temperature"] for run in first] == list(GRIDS[0].values)
    assert [run["weight_cos"] for run in second] == list(GRIDS[1].values)
    assert {run["temperature"] for run in second} == {0.1}
    one, two = ((folder_of(study, tmp_path / name) / "figure4.csv").read_text() for name in ("one", "two"))
    assert one == two
    # Machines that share a database share the points instead.
    shared = f"--storage=sqlite:///{tmp_path / 'shared.db'}"
    assert reproduce(root, tmp_path / "three", "--jobs=2", shared).status == 0
    assert len(study.side_by_side) == 2


def test_it_goes_on_and_ends_the_same(study: Study, root: Path, tmp_path: Path) -> None:
    assert reproduce(root, tmp_path / "whole").status == 0
    whole = (folder_of(study, tmp_path / "whole") / "figure4.csv").read_text()
    run, count = figure4.run_study, 0

    def interrupted(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return run(*arguments, **more)

    figure4.run_study = interrupted  # type: ignore[assignment]
    assert reproduce(root, tmp_path / "part").status == 130
    figure4.run_study = run
    study.ran.clear()
    assert reproduce(root, tmp_path / "part").status == 0
    assert len(study.ran) == 13 - 4
    assert (folder_of(study, tmp_path / "part") / "figure4.csv").read_text() == whole
    study.ran.clear()
    assert reproduce(root, tmp_path / "part").status == 0
    assert not study.ran


def test_a_point_that_fails_is_reported_and_tried_again(study: Study, root: Path, tmp_path: Path) -> None:
    study.failing = {0.03, 0.07}
    line = reproduce(root, tmp_path).line
    assert "tau 0.03: broken" in line
    assert "tau 0.07: broken" in line
    assert len(study.ran) == len(GRIDS[0].values)
    assert not list(tmp_path.rglob("*.csv"))
    study.failing, study.ran = set(), []
    assert reproduce(root, tmp_path).status == 0
    assert [run["temperature"] for run in study.ran if "weight_cos" not in run] == [0.03, 0.07]


def test_more_seeds_make_another_figure_in_the_same_database(
    study: Study, root: Path, tmp_path: Path
) -> None:
    for seeds in (2, 3, 2):
        assert reproduce(root, tmp_path, f"--seeds={seeds}").status == 0
    assert study.seeds == [2] * 13 + [3] * 13  # the third call finds what the first one made


def test_a_database_of_other_runs_is_refused(study: Study, root: Path, tmp_path: Path) -> None:
    assert reproduce(root, tmp_path).status == 0
    assert "made with another epochs" in reproduce(root, tmp_path, "--epochs=1").line
    # The data may lie elsewhere on another machine.
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    study.ran.clear()
    assert reproduce(moved, tmp_path).status == 0
    assert not study.ran


MISTAKES = [
    (["--benchmark=[ucf,vggsound]"], "one value of --benchmark"),
    (["--seeds=0"], "--seeds 0"),
    (["--jobs=0"], "--jobs 0"),
    (["--like=theirs"], "like"),
    (["--storage=nothing"], "'nothing'"),
    (["--root=/no/such/folder"], "/no/such/folder"),
]


@pytest.mark.parametrize(("wrong", "named"), MISTAKES, ids=lambda given: " ".join(given)[:40])
def test_mistakes(wrong: list[str], named: str, root: Path, tmp_path: Path) -> None:
    assert named in reproduce(root, tmp_path, *wrong).line
    assert not list(tmp_path.rglob("figure4.*"))


def test_the_curves_are_drawn_as_they_are() -> None:
    def summary(hm: float) -> Mapping[str, Any]:
        return {
            part: {"mean": dict.fromkeys(MEASURES, hm + more), "std": dict.fromkeys(MEASURES, None)}
            for part, more in (("validation", 0.1), ("test", 0.0))
        }

    curve = SensitivityCurve(
        Grid("temperature", "tau", (0.1, 0.2)), {}, {0.1: summary(0.3), 0.2: summary(0.2)}
    )
    assert curve.chosen == 0.1
    figure = figure4.draw([curve, curve], heading="a $ heading")
    axis = figure.axes[0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.containers for line in [line.lines[0]]}
    assert len(axis.containers) == 8
    assert sorted({tuple(round(float(y), 6) for y in ys) for ys in drawn.values()}) in (
        [(30.0, 20.0), (40.0, 30.0)],
        [(30.0, 20.0)],
        [(40.0, 30.0)],
    )
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.1", "0.2"]


@pytest.mark.slow
def test_a_real_one_shares_the_runs_of_the_tables(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids = (Grid("temperature", "tau", (0.05,)), Grid("weight_cos", "lambda_cos", (0.2,)))
    monkeypatch.setattr(figure4, "GRIDS", grids)
    outcome = reproduce(root, tmp_path, "--epochs=1", "--seeds=1")
    assert outcome.status == 0, outcome.err
    runs = {path.parent.parent.name for path in tmp_path.rglob("result.json")}
    assert runs == {"sacma"}  # the paper's own values, so the run that Tables 2 to 7 have
