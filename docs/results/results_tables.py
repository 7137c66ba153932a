"""Puts the tables of a results folder into docs/results/results.md; words around them are written by hand.

    python docs/results/results_tables.py RUNS [PAGE]

RUNS is the folder that docs/results/results.sh filled. A table stands between two lines of the page,
``<!-- KIND NAME -->`` and ``<!-- end -->``, and is replaced where RUNS has what it is made of; other tables
stay as they are and are listed.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sacma.files import write_text
from sacma.metrics.gzsl import ACCURACIES
from sacma.results.figure4 import GRIDS

SETS = {
    "sightsound": "sightsound-main_features_non_averaged-main-ours",
    "AV-Shapes": "avshapes-descriptors-main-ours",
}
COLUMNS = tuple(ACCURACIES)
BLOCK = re.compile(
    r"(?P<begin><!-- (?P<kind>[a-z]+) (?P<name>[^\n]+) -->\n).*?(?P<end><!-- end -->\n)", re.DOTALL
)

Record = dict[str, str]


def printed(runs: Path, name: str) -> str:
    """A table as ``sacma reproduce`` wrote it, SETTING/STUDY, less its heading and what presets assume."""
    lines = (runs / f"{name}.md").read_text().splitlines()
    return "\n".join(one for one in lines if not one.startswith("# ") and ": not in the paper, " not in one)


def parts(runs: Path, study: str) -> str:
    """Both sets side by side; of sightsound, which tells few rows apart, HM and ZSL alone."""
    of_set = {name: records(runs / folder / f"{study}.csv") for name, folder in SETS.items()}
    lines = []
    for one, other in zip(*of_set.values(), strict=True):
        if one.get("S std"):
            lines.append([one["method"], *spread(one, ("HM", "ZSL")), *spread(other), other["epochs"]])
    return markdown(["", "sightsound HM", "ZSL", *("AV-Shapes S", *COLUMNS[1:]), "epochs"], lines)


def alignment(runs: Path, name: str) -> str:
    """What a wrong pairing costs: on the simulated features of a setting, and on sightsound."""
    lines = []
    for label, folder in (("simulated UCF", name), ("sightsound", SETS["sightsound"])):
        previous = ""
        rows = records(runs / folder / "alignment.csv")
        labels = {row["row"]: row["method"] for row in rows if row["method"]}
        for row in rows:
            if row["row"] == "chance":
                continue
            data = (
                label + row["features"].replace("simulated-", ", noise ")
                if row["simulated"] == "True"
                else label
            )
            names = [labels[name] for name in row["row"].split(" - ")]
            sign = "+" if len(names) > 1 else ""
            lines.append([data if data != previous else "", " − ".join(names), *spread(row, sign=sign)])
            previous = data
    return markdown(["data", "row", *COLUMNS], lines)


def sensitivity(runs: Path, name: str) -> str:
    """The points of Figure 4, a table a curve."""
    rows = records(runs / SETS[name] / "figure4.csv")
    tables = []
    for grid in GRIDS:
        own = [row for row in rows if row["parameter"] == grid.parameter]
        validation, test = ([row for row in own if row["part"] == part] for part in ("validation", "test"))
        lines = [
            [one["value"] + " (chosen)" * (one["chosen"] == "True"), *spread(one, ("HM",)), *spread(other)]
            for one, other in zip(validation, test, strict=True)
        ]
        tables.append(markdown([grid.label, "validation HM", "test S", *COLUMNS[1:]], lines))
    return "\n".join(tables)


KINDS: dict[str, Callable[[Path, str], str]] = {
    "printed": printed,
    "parts": parts,
    "alignment": alignment,
    "sensitivity": sensitivity,
}


def records(path: Path) -> list[Record]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def spread(row: Record, names: Sequence[str] = COLUMNS, *, sign: str = "") -> list[str]:
    return [
        f"{float(row[name]):{sign}.1f}"
        + (f" ± {float(row[f'{name} std']):.1f}" if row[f"{name} std"] else "")
        for name in names
    ]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---" if name in ("", "data", "row", "tau", "lambda_cos") else "---:" for name in head]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *lines))


def filled(page: str, runs: Path) -> tuple[str, list[str]]:
    """The page with the tables of ``runs``, and the names of those that it has nothing for."""
    left: list[str] = []

    def table(block: re.Match[str]) -> str:
        try:
            made = KINDS[block["kind"]](runs, block["name"])
        except FileNotFoundError as error:
            left.append(f"{block['kind']} {block['name']}: no {error.filename}")
            return block[0]
        return f"{block['begin']}\n{made.strip()}\n\n{block['end']}"

    return BLOCK.sub(table, page), left


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    path = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).with_name("results.md"))
    text, missing = filled(path.read_text(), folder)
    write_text(path, text)
    for line in missing:
        print(f"left as it is: {line}")
