"""The tables of the pages are those of the files of figures, and the figures of the sentences are in them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
import figures  # noqa: E402

FILE = """# title: toy set, 2 seeds
# command: sacma reproduce table3
# date: 2026-11-30
# commit: 0adbf0e
# note: percent
data,method,HM,HM std,lead,lead low,lead high
toy,SACMA,10.1,2.5,,,
toy,other,8.0,,+2.1,-0.5,+4.7
"""
TABLE = """toy set, 2 seeds

| data | method | HM | lead |
| --- | --- | ---: | ---: |
| toy | SACMA | 10.1 ± 2.5 |  |
|  | other | 8.0 | +2.1 (-0.5 to +4.7) |

- percent"""
BLOCK = "<!-- table toy -->\nold\n<!-- end -->\n"
WRITTEN = """# Table 3: parts

toy set, 2 seeds

| method | HM | lead |
| --- | ---: | ---: |
| SACMA | 10.1 ± 2.5 |  |
| other | 8.0 | +2.1 (-0.5 to +4.7) |

- percent
- sacma: not in the paper, epochs
"""
CURVES = """parameter,value,part,chosen,S,S std,U,U std,HM,HM std,ZSL,ZSL std
temperature,0.1,validation,True,1,1,1,1,50.04,1.26,1,1
temperature,0.1,test,True,49.0,,48.0,,47.0,,46.0,
"""
MADE = {"commands": ["sacma reproduce table3"], "made": "2026-11-30", "commit": "0adbf0e"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "toy.csv").write_text(FILE)
    return tmp_path


@pytest.mark.parametrize("page", figures.pages(), ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_pages_are_in_step_with_their_files(page: Path) -> None:
    assert figures.out_of_step(page) == []


@pytest.mark.parametrize("page", sorted((DOCS / "results").glob("*.md")), ids=lambda page: page.name)
def test_pages_of_results_rest_on_files_and_are_listed(page: Path) -> None:
    assert page.name == "results.md" or f"]({page.name})" in (DOCS / "results" / "results.md").read_text()
    assert figures.names_of(page.read_text())


@pytest.mark.parametrize("file", sorted(figures.DATA.iterdir()), ids=lambda file: file.name)
def test_files_are_whole_and_a_page_names_each(file: Path) -> None:
    found = figures.read(file)
    assert found.text() == file.read_text()
    assert len(found.rows) > 0
    name = file.name.removesuffix(".csv")
    assert any(name in figures.names_of(page.read_text()) for page in figures.pages())


def test_a_table_is_that_of_its_file_and_words_stay(data: Path) -> None:
    page = figures.filled(f"before\n{BLOCK}after\n", data / "pages" / "page.md", data)
    assert page.startswith(f"before\n<!-- table toy -->\n\n{TABLE}\n\n*[toy.csv](../toy.csv), 2026-11-30, ")
    assert page.endswith("<!-- end -->\nafter\n")
    assert "old" not in page
    assert figures.filled(page, data / "pages" / "page.md", data) == page


def test_some_columns_alone(data: Path) -> None:
    page = figures.filled(BLOCK.replace("toy -->", "toy: HM -->"), data / "page.md", data)
    assert "| toy | 10.1 ± 2.5 |\n" in page
    assert "SACMA" not in page
    with pytest.raises(SystemExit, match="no column XY; there are data, method, HM, lead"):
        figures.filled(BLOCK.replace("toy -->", "toy: XY -->"), data / "page.md", data)


def test_a_note_on_a_column_goes_with_it() -> None:
    made = figures.Figures(
        ["method", "HM", "se HM", "bias"],
        [["ale", "1", "2", "3"]],
        [],
        "",
        "",
        "",
        ["percent; se: s; bias: b"],
    )
    assert made.markdown().endswith("\n- percent; se: s; bias: b")
    assert made.markdown(["HM", "bias"]).endswith("\n- percent; bias: b")
    assert made.markdown(["HM", "se HM"]).endswith("\n- percent; se: s")


@pytest.mark.parametrize(
    ("sentence", "stray"),
    [
        ("It has 10.1 and 8 points, 10 ± 3 for 2.1.", []),
        ("It has 10.2.", ["10.2"]),
        ("It leads by 9 points.", ["9"]),
        ("It takes 70 % of it.", ["70"]),
        ("It is 10 ± 4.", ["4"]),
        ("13 classes of UCF101 in `0.9`, see [3.3](page-7.7.md).", ["3.3"]),
        ("    a command with 9.9\n", []),
        ("| a | b |\n| --- | --- |\n| of hand | 9.9 |\n", ["9.9"]),
        ("Python 3.11, a 95 % interval.", []),
    ],
)
def test_figures_of_sentences_are_in_the_files(data: Path, sentence: str, stray: list[str]) -> None:
    assert figures.strays(f"<!-- figures toy -->\n{sentence}", data) == stray
    assert figures.strays(sentence, data) == []


def test_a_table_that_sacma_wrote_becomes_a_file_that_shows_the_same() -> None:
    found = figures.take(WRITTEN, **MADE)
    assert found.columns == ["method", "HM", "HM std", "lead", "lead low", "lead high"]
    assert found.notes == ["percent"]
    assert (
        found.markdown()
        == WRITTEN.partition("\n\n")[2].replace("- sacma: not in the paper, epochs\n", "").strip()
    )


def test_intervals_of_draws_stand_behind_their_differences() -> None:
    table = """draws

| method | HM | KITE HM | 95 % | KITE ZSL | 95 % |
| --- | ---: | ---: | ---: | ---: | ---: |
| KITE | 56.0 ± 4.1 |  |  |  |  |
| ESZSL | 50.4 ± 1.5 | +5.6 | +2.2 to +8.9 | -0.1 | -1.0 to +0.8 |
"""
    taken = figures.take(table, commands=["sacma draws"], made="2026-01-02", commit="abc")
    assert taken.columns[3:6] == ["KITE HM", "KITE HM low", "KITE HM high"]
    assert len(taken.columns) == 9
    assert "| ESZSL | 50.4 ± 1.5 | +5.6 (+2.2 to +8.9) | -0.1 (-1.0 to +0.8) |" in taken.markdown()


def test_several_tables_become_one_with_their_titles() -> None:
    found = figures.take(f"{WRITTEN}\n{WRITTEN.replace('toy set', 'other set')}", **MADE)
    assert found.columns[:2] == ["data", "method"]
    assert [row[0] for row in found.rows] == ["toy set, 2 seeds"] * 2 + ["other set, 2 seeds"] * 2


def test_points_of_figure_4_become_a_file() -> None:
    found = figures.take_curves(CURVES, **MADE)
    assert found.rows == [
        ["tau", "0.1 (chosen)", "50.0", "1.3", "49.0", "", "48.0", "", "47.0", "", "46.0", ""]
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# note", "# nota", "unknown key 'nota'"),
        ("# commit: 0adbf0e\n", "", "no line '# commit: ...'"),
        ("toy,SACMA,", "toy,", "6 cells and not 7"),
    ],
)
def test_broken_files_are_named(data: Path, old: str, new: str, message: str) -> None:
    (data / "toy.csv").write_text(FILE.replace(old, new))
    with pytest.raises(SystemExit, match=message):
        figures.read(data / "toy.csv")
