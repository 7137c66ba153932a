"""Options chosen by validation for each row of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands import sacma
from folders import FEATURES, NAME, write_folder
from sacma.runs.folder import RunFolder
from sacma.studies import study as studies
from sacma.studies.choice import choose, run_chosen
from sacma.studies.study import Row, read_facts, read_study

QUICK = {"epochs": 2, "batches_per_epoch": 5, "batch_size": 16}
BAD, GOOD = {"learning_rate": 1e-9}, {"learning_rate": 0.03}
ROWS = [
    Row("ale", "ALE", 1, {"method": "ale", **QUICK}),
    Row("devise", "DeViSE", 2, {"method": "devise", **QUICK}),
]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = write_folder(tmp_path_factory.mktemp("choice") / "root")
    return {"benchmark": NAME, "features": FEATURES, "root": str(root)}


def test_the_best_on_validation_is_taken_and_no_other_reads_test(
    given: dict[str, Any], tmp_path: Path
) -> None:
    (result,) = run_chosen(ROWS, [given], [BAD, GOOD], like="ours", seeds=2, jobs=1, out=tmp_path)
    finished = {path.parent.parent.name for path in tmp_path.rglob("result.json")}
    begun = {path.parents[2].name for path in tmp_path.rglob("selection.json")}
    assert len(begun) == 4
    for row, before in zip(result.rows, ROWS, strict=True):
        figures = {}
        for choice in (BAD, GOOD):
            (folder,) = (
                name
                for name in begun
                if name.startswith(before.name) and f"={choice['learning_rate']}" in name
            )
            run = RunFolder(next(tmp_path.rglob(folder)) / "seed-0")
            figures[folder] = run.selection().validation.harmonic_mean, choice
            assert (folder in finished) == (choice["learning_rate"] == row.row.options["learning_rate"])
        best, choice = max(figures.values(), key=lambda pair: pair[0])
        assert row.row.options == {**before.options, **choice}
        (note,) = row.row.notes
        assert note.startswith(
            f"chosen on validation, HM {100 * best:.1f}: learning_rate {choice['learning_rate']}"
        )
        assert row.summary is not None
        assert list(row.summary.seeds) == [0, 1]
    assert len(finished) == 2


def test_stage_1_is_done_once(given: dict[str, Any], tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"like": "ours", "jobs": 1, "out": tmp_path}
    first = choose(ROWS[:1], given, [BAD, GOOD], **arguments)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("selection.json")}
    assert choose(ROWS[:1], given, [BAD, GOOD], **arguments) == first
    run_chosen(ROWS[:1], [given], [BAD, GOOD], **arguments, seeds=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("selection.json")} == times


def test_a_choice_that_a_method_lacks_is_left_out(given: dict[str, Any], tmp_path: Path) -> None:
    rows = choose(ROWS[:1], given, [{"depth": 3}, GOOD], like="ours", jobs=1, out=tmp_path)
    assert rows[0].options["learning_rate"] == 0.03
    assert "others" not in rows[0].notes[0]
    assert choose(ROWS[:1], given, [{"depth": 3}], like="ours", jobs=1, out=tmp_path) == ROWS[:1]


def test_a_study_may_have_the_rows_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for row, plain in zip(read_study("yt8m"), read_study("table2"), strict=True):
        assert row == replace(plain, options={**read_facts("yt8m").options, **plain.options})
        assert row.options["bias_search"] == "smooth"
    assert len(read_facts("yt8m").choices) == 4
    for choice in read_facts("yt8m").choices:
        assert set(choice) == {"feature_scaling", "batches_per_epoch", "epochs"}
    assert "no study 'nowhere'; there are:" in sacma("reproduce", "nowhere").line
    assert "yt8m" in sacma("reproduce", "nowhere").line
    monkeypatch.setattr(studies, "experiments_folder", lambda: tmp_path)
    (tmp_path / "mine.yaml").write_text("title: x\nrows: ../../etc\n")
    assert "no study 'mine'" in sacma("reproduce", "mine").line


def test_a_method_without_steps_is_not_tried_with_other_numbers_of_them(
    given: dict[str, Any], tmp_path: Path
) -> None:
    row = Row("kite", "KITE", 1, {"method": "cosine-ridge"})
    choices = [{"feature_scaling": name, "epochs": n} for name in ("unit", "standardise") for n in (1, 2)]
    rows = choose([row], given, choices, like="ours", jobs=1, out=tmp_path)
    assert set(rows[0].options) == {"method", "feature_scaling"}
    begun = {path.parents[2].name for path in tmp_path.rglob("selection.json")}
    assert len(begun) == 2
