"""The tables of docs/results/results.md come out of the files that the studies write."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "results"
SETS = ("sightsound-main_features_non_averaged-main-ours", "avshapes-descriptors-main-ours")
PAGE = """words before

<!-- parts table3 -->

old

<!-- end -->

between

<!-- printed {0}/table2 -->

old too

<!-- end -->
after
"""


def fill(runs: Path, page: Path) -> list[str]:
    command = [sys.executable, DOCS / "results_tables.py", runs, page]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def write(path: Path, records: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]), restval="")
        writer.writeheader()
        writer.writerows(records)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE.format(SETS[1]))
    return path


def test_tables_are_replaced_and_words_stay(tmp_path: Path, page: Path) -> None:
    figures = {f"{name}{more}": 10.06 for name in ("S", "U", "HM", "ZSL") for more in ("", " std")}
    for folder in SETS:
        row = {"row": "sacma", "method": "SACMA", **figures, "epochs": "1/2"}
        write(tmp_path / folder / "table3.csv", [row, {"row": "chance", "S": 5}])
    (tmp_path / SETS[1] / "table2.md").write_text(
        "# Table 2\n\ntitle\n\n| new |\n\n- sacma: not in the paper, epochs\n"
    )
    assert fill(tmp_path, page) == []
    text = page.read_text()
    spread = "10.1 ± 10.1"
    assert f"\n| SACMA | {' | '.join([spread] * 6)} | 1/2 |\n\n<!-- end -->" in text
    assert "chance" not in text
    assert "/table2 -->\n\ntitle\n\n| new |\n\n<!-- end -->\nafter\n" in text
    assert "old" not in text
    assert text.startswith("words before\n\n<!-- parts table3 -->")
    fill(tmp_path, page)
    assert page.read_text() == text


def test_tables_without_results_stay_and_are_named(tmp_path: Path, page: Path) -> None:
    (tmp_path / SETS[1]).mkdir()
    (tmp_path / SETS[1] / "table2.md").write_text("| new |\n")
    (line,) = fill(tmp_path, page)
    assert line.startswith("left as it is: parts table3: no ")
    assert "old\n" in page.read_text()
    assert "old too" not in page.read_text()


def test_the_page_has_whole_blocks_of_known_kinds() -> None:
    text = (DOCS / "results.md").read_text()
    marks = re.findall(r"^<!-- (\S+)", text, re.MULTILINE)
    assert marks[1::2] == ["end"] * (len(marks) // 2)
    assert set(marks[::2]) == {"printed", "parts", "alignment", "sensitivity"}
