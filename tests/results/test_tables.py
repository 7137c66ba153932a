"""Tables of studies: cells, marks, gains, differences, and the formats they are written in."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import folders
from commands import sacma
from sacma.data.benchmark import Benchmark
from sacma.metrics.gzsl import GZSLResult
from sacma.results.tables import Comparison, RowGroup, compare, table_1
from sacma.runs.config import resolve
from sacma.runs.prepare import open_benchmark
from sacma.runs.records import RunResult, RunSummary
from sacma.studies.study import Row, RowResult, SettingResult, Study, read_facts, read_study, setting_name

PRINTED = {"ucf": {"S": 40.0, "U": 20.0, "HM": 26.67, "ZSL": 31.5}}
STUDY = Study("Table 0: made up")
ONE = Row("one", "One", 1, {"method": "eszsl"})
TWO = replace(ONE, name="two", label="Two")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """A benchmark that chance is computed from; its name decides on the published figures."""
    root = folders.write_folder(tmp_path_factory.mktemp("toy"))
    given = {"benchmark": folders.NAME, "features": folders.FEATURES, "root": str(root)}
    return open_benchmark(resolve(given).data)


def _result(row: Row, *, better: float = 0.0, seeds: int = 2, **more: Any) -> RowResult:
    shared = {
        "benchmark": "ucf",
        "split": "main",
        "features": "selavi",
        "feature_scaling": "published",
        "text": "ucf",
        "text_alignment": "published",
        "method": "eszsl",
        "variant": "published",
        "bias_search": "grid",
        "preset": "published",
    }
    results = []
    for seed in range(seeds):
        figures = {"seen": 0.5, "unseen": 0.25, "harmonic_mean": 1 / 3, "zsl": 0.3, "bias": 1.23456}
        figures = {name: value + better + 0.02 * seed for name, value in figures.items()} | {"ausuc": 0.2}
        found = GZSLResult(**figures, bias_search="grid")
        own = {"seed": seed, "epochs": 7 + seed, "validation": found, "test": found}
        results.append(RunResult(**{**shared, **own, **more}))
    errors = {"seen": 0.01, "unseen": 0.02, "harmonic_mean": 0.015, "zsl": 0.03}
    return RowResult(row, RunSummary.of(results), errors, results)


def _setting(toy: Benchmark, *results: RowResult, name: str = "ucf", **more: Any) -> SettingResult:
    return SettingResult(replace(toy, name=name, **more), "selavi", list(results))


def _cells(table: Comparison, row: int = 0, group: int = 0) -> dict[str, str]:
    return dict(zip(table.columns, table.groups[group].rows[row], strict=True))


def test_a_result_whose_unseen_classes_the_encoder_knows_is_marked(toy: Benchmark) -> None:
    """Simulated features are free of it, so the mark goes where the provenance says so."""
    shared = compare(STUDY, [_setting(toy, _result(ONE), name="vggsound")], like="published")
    assert _cells(shared)["method"] == "One †"
    assert next(note for note in shared.notes if "VGGSound without labels" in note).startswith(
        "vggsound, selavi"
    )
    assert "VGGSound without labels" in shared.records[0]["overlap"]
    assert "One \\textdagger{}" in shared.latex(label="x")
    free = compare(STUDY, [_setting(toy, _result(ONE), name="ucf")], like="published")
    assert _cells(free)["method"] == "One"
    assert not any("†" in note for note in free.notes)
    assert free.records[0]["overlap"] == ""


def test_printed_figures_and_differences_stand_beside_ours(toy: Benchmark) -> None:
    row = replace(ONE, expected=PRINTED)
    table = compare(STUDY, [_setting(toy, _result(row))], like="published")
    assert _cells(table) == {
        **{"method": "One", "S": "51.0 ± 1.4", "U": "26.0 ± 1.4", "HM": "34.3 ± 1.4", "ZSL": "31.0 ± 1.4"},
        **{"se HM": "1.5", "se ZSL": "3.0", "bias": "1.24", "epochs": "7/8"},
        **{"printed S": "40.00", "printed U": "20.00", "printed HM": "26.67", "printed ZSL": "31.50"},
        **{"ΔHM": "+7.66", "ΔZSL": "-0.50"},
    }
    assert {len(cells) for cells in table.groups[0].rows} == {len(table.columns)}
    assert _cells(compare(STUDY, [_setting(toy, _result(ONE, seeds=1))], like="ours"))["S"] == "50.0"


@pytest.mark.parametrize(
    ("name", "split", "like", "features", "printed", "difference"),
    [
        ("ucf", "main", "published", "selavi", True, True),
        ("ucf", "main", "ours", "selavi", True, False),
        ("ucf", "main", "published", "own", True, False),
        ("ucf", "cls", "published", "selavi", False, False),
        ("activitynet", "main", "published", "selavi", False, True),
        ("toy", "main", "published", "selavi", False, False),
    ],
)
def test_what_is_set_beside_the_paper(
    name: str, split: str, like: str, features: str, printed: bool, difference: bool, toy: Benchmark
) -> None:
    setting = replace(
        _setting(toy, _result(replace(ONE, expected=PRINTED)), name=name, split_name=split), features=features
    )
    table = compare(STUDY, [setting], like=like)
    assert any("printed" in column for column in table.columns) == printed
    assert bool(_cells(table).get("ΔHM")) == (printed and difference)
    (record, *_) = csv.DictReader(io.StringIO(table.csv()))
    assert ("printed HM" in record) == printed
    assert any("no difference is shown" in note for note in table.notes) == (printed and not difference)


def test_simulated_features_are_labelled_and_have_no_printed_figures(toy: Benchmark) -> None:
    simulated = replace(toy, features=replace(toy.features, provenance={"simulated": True}))
    row = replace(ONE, expected=PRINTED)
    table = compare(STUDY, [_setting(simulated, _result(row))], like="published")
    assert table.groups[0].title.startswith("SIMULATED ucf")
    assert not any("printed" in column for column in table.columns)
    assert any("say nothing about real videos" in note for note in table.notes)
    assert next(csv.DictReader(io.StringIO(table.csv())))["simulated"] == "True"


def test_errata_are_marked_and_told_below(toy: Benchmark) -> None:
    errata = {"ucf": {"HM": "the sum is wrong", "ZSL": "it is another row's"}}
    rows = [replace(ONE, expected=PRINTED, errata=errata), replace(TWO, expected=PRINTED)]
    table = compare(STUDY, [_setting(toy, *map(_result, rows))], like="ours")
    first, second = _cells(table), _cells(table, 1)
    assert (first["printed S"], first["printed HM"], first["printed ZSL"]) == ("40.00", "26.67ᵃ", "31.50ᵇ")
    assert (second["printed HM"], second["printed ZSL"]) == ("26.67", "31.50")
    assert [note for note in table.notes if note[0] in "ᵃᵇ"] == [
        "ᵃ the sum is wrong",
        "ᵇ it is another row's",
    ]
    assert "26.67\\textsuperscript{a}" in table.latex(label="x")


def test_gains_are_paired_over_seeds(toy: Benchmark) -> None:
    printed = {"ucf": {"S": 30.0, "U": 10.0, "HM": 15.0, "ZSL": 30.0}}
    rows = [
        _result(replace(ONE, expected=PRINTED), better=0.1),
        _result(replace(TWO, expected=printed)),
    ]
    study = replace(STUDY, gains=[("one", "two"), ("one", "absent")])
    table = compare(study, [_setting(toy, *rows)], like="ours")
    gain = _cells(table, -1)
    assert gain["method"] == "One − Two"
    # Both rise by 2 with the seed, so the difference has no spread.
    assert (gain["S"], gain["ZSL"]) == ("+10.0 ± 0.0", "+10.0 ± 0.0")
    assert (gain["printed HM"], gain["printed ZSL"]) == ("+11.67", "+1.50")
    records = list(csv.DictReader(io.StringIO(table.csv())))
    assert records[-1]["row"] == "one - two"
    assert float(records[-1]["HM"]) == pytest.approx(10)


def test_the_headline_of_the_paper_is_a_line_of_table_2(toy: Benchmark) -> None:
    results = [_result(row) for row in read_study("table2") if row.name in ("sacma", "avmst", "tcaf")]
    table = compare(read_facts("table2"), [_setting(toy, *results)], like="published")
    gains = {_cells(table, place)["method"]: _cells(table, place) for place in (-2, -1)}
    assert {name: (cells["printed HM"], cells["printed ZSL"]) for name, cells in gains.items()} == {
        "SACMA − AVMST": ("+7.80", "+0.88"),
        "SACMA − TCAF": ("+5.99", "+4.26"),
    }


def test_vectors_have_a_column_where_rows_differ_in_them(toy: Benchmark) -> None:
    rows = [_result(ONE), _result(TWO, text="clip")]
    table = compare(STUDY, [_setting(toy, *rows)], like="ours")
    assert [_cells(table, place)["vectors"] for place in (0, 1)] == ["published (ucf)", "published (clip)"]
    assert "published class vectors (ucf or clip)" in table.groups[0].title
    assert "vectors" not in compare(STUDY, [_setting(toy, rows[0])], like="ours").columns


def test_a_failed_row_says_why_and_the_others_stand(toy: Benchmark) -> None:
    failed = RowResult(TWO, None, failure="no vectors of CLIP")
    table = compare(STUDY, [_setting(toy, _result(ONE), failed)], like="ours")
    assert _cells(table, 1) == dict.fromkeys(table.columns, "") | {"method": "Two", "S": "failed"}
    assert "Two: failed, no vectors of CLIP" in table.notes
    alone = compare(STUDY, [_setting(toy, failed)], like="ours")
    assert "no row has finished" in alone.groups[0].title


def test_assumptions_are_told(toy: Benchmark) -> None:
    row = replace(ONE, options={"method": "sacma"}, not_in_paper={"streams": "terms are left out"})
    notes = compare(STUDY, [_setting(toy, _result(row))], like="ours").notes
    assert "One: not in the paper, streams: terms are left out" in notes
    (preset,) = [note for note in notes if note.startswith("sacma: not in the paper")]
    assert "depth" in preset
    assert "heads" in preset
    assert "temperature" not in preset


def test_several_benchmarks_are_groups_of_one_table(toy: Benchmark) -> None:
    row = replace(ONE, expected=PRINTED)
    settings = [_setting(toy, _result(row)), _setting(toy, _result(row, benchmark="own"), name="own")]
    table = compare(STUDY, settings, like="published")
    assert len(table.groups) == 2
    assert _cells(table, 0, 1)["printed HM"] == _cells(table, 0, 1)["ΔHM"] == ""
    assert [record["benchmark"] for record in csv.DictReader(io.StringIO(table.csv()))] == [
        *("ucf", "ucf"),
        *("own", "own"),
    ]
    assert table.markdown().count("| method |") == 2


# --- Formats --------------------------------------------------------------------------------------

NASTY = Comparison(
    "Table 9: 50 % & more_of {it}",
    ["method", "S ± σ", "Δ"],
    [RowGroup("a|b #1", [["w/o A_S", "1.0 ± 0.1", "−1 <2"], ["C:\\x ~^$", "2ᵃ", ""]])],
    ["ᵃ see $x$"],
)


def test_latex_escapes_what_is_special_to_it() -> None:
    text = NASTY.latex(label="Table_9 x")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("% needs"))
    assert "\\caption{50 \\% \\& more\\_of \\{it\\}}" in body
    assert "\\label{tab:table-9-x}" in body
    assert "w/o A\\_S & 1.0 $\\pm$ 0.1 & $-$1 $<$2 \\\\" in body
    assert (
        "C:\\textbackslash{}x \\textasciitilde{}\\textasciicircum{}\\$ & 2\\textsuperscript{a} &  \\\\"
        in body
    )
    assert "\\textsuperscript{a} see \\$x\\$\\par" in body


@pytest.mark.parametrize("table", [NASTY, table_1(["ucf", "vggsound"], "main")], ids=["nasty", "table 1"])
def test_latex_is_well_formed(table: Comparison) -> None:
    text = re.sub(r"\\[&%$#_{}]", "", table.latex(label="x"))
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    assert text.count("$") % 2 == 0
    rows = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.count("&") for line in rows} == {len(table.columns) - 1}
    assert all(f"\\{rule}" in text for rule in ("toprule", "midrule", "bottomrule"))
    assert not re.search(r"[^\x00-\x7fσ]", text)


def test_markdown_keeps_its_columns() -> None:
    table = replace(NASTY, columns=["a|b", "c", "d"])
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_terminal_shows_every_figure_in_one_line(toy: Benchmark) -> None:
    row = replace(ONE, label="A method with a long name", expected=PRINTED)
    table = compare(STUDY, [_setting(toy, _result(row), _result(TWO, text="clip"))], like="published")
    for width in (100, 120, 300):
        console = Console(width=width, file=io.StringIO())
        console.print(table)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "…" not in shown
        assert all(figure in shown for figure in ("51.0 ± 1.4", "34.3 ± 1.4"))
    assert all(figure in shown for figure in ("A method with a long name", "+7.66", "26.67"))


# --- The command ----------------------------------------------------------------------------------


def test_table_1_is_that_of_the_lists(tmp_path: Path) -> None:
    outcome = sacma("reproduce", "table1", f"--out={tmp_path}")
    assert outcome.status == 0, outcome.err
    with (tmp_path / "table1-main.csv").open() as file:
        rows = {row["benchmark"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["UCF-GZSL", "VGGSound-GZSL", "ActivityNet-GZSL"]
    assert rows["UCF-GZSL"]["C"] == "51"
    assert rows["VGGSound-GZSL"]["val_u"] == "69ᵃ"
    assert "ᵃ VGGSound-GZSL, val_u: 69, where the paper prints 138" in outcome.out
    assert sacma("reproduce", "table1", "--split=cls", "--benchmark=ucf", f"--out={tmp_path}").status == 0
    assert (tmp_path / "table1-cls.tex").read_text().count("GZSL") == 1


def test_tables_of_several_benchmarks_below_one_root(
    tmp_path: Path, toy: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("UCF", "ActivityNet"):
        features = tmp_path / folder / "features"
        shutil.copytree(toy.features.path, features / "main_features_non_averaged")
    seen: list[Mapping[str, Any]] = []

    def results(rows: list[Row], settings: list[Mapping[str, Any]], **more: Any) -> list[SettingResult]:
        seen.extend(settings)
        return [_setting(toy, *map(_result, rows), name=given["benchmark"]) for given in settings]

    monkeypatch.setattr("sacma.studies.choice.run_study", results)
    out = tmp_path / "out"
    outcome = sacma(
        "reproduce", "table3", "--benchmark=[ucf,activitynet]", f"--root={tmp_path}", f"--out={out}"
    )
    assert outcome.status == 0, outcome.err
    assert [(one["benchmark"], one["root"]) for one in seen] == [
        ("ucf", str(tmp_path)),
        ("activitynet", str(tmp_path)),
    ]
    folder = out / setting_name(seen, "published")
    assert folder.name == "ucf+activitynet-selavi-main-published"
    assert {path.name for path in folder.iterdir()} == {"table3.md", "table3.csv", "table3.tex"}
    assert "printed HM" in (folder / "table3.md").read_text()


def test_one_step_a_clip_is_said(toy: Benchmark) -> None:
    rows = [Row(name, name.upper(), 0, {"method": name}) for name in ("tcaf", "ale", "kite")]
    averages = toy.split("test").averaged().features
    table = compare(STUDY, [_setting(toy, *map(_result, rows), features=averages)], like="ours")
    (note,) = (note for note in table.notes if "one step a clip" in note)
    assert "TCAF read sequences of length 1" in note
    assert "ALE" not in note
    assert "KITE" not in note  # it is meant for averages too
    plain = compare(STUDY, [_setting(toy, *map(_result, rows))], like="ours")
    assert not any("one step a clip" in note for note in plain.notes)
